package settings

// Secret is a text that nothing that prints or encodes shows: it is behind a pointer because fmt asks no methods of unexported
// fields, nor within a value that it finds to be of the wrong kind for its verb. The zero Secret is empty.
type Secret struct{ text *string }

// NewSecret makes a secret of its text.
func NewSecret(text string) Secret { return Secret{&text} }

// Reveal gives the text.
func (s Secret) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

func (Secret) String() string { return "…" }

// GoString keeps %#v from showing where it is.
func (s Secret) GoString() string { return s.String() }

// MarshalText keeps encoders from showing it.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Equal says whether both have the same text.
func (s Secret) Equal(other Secret) bool { return s.Reveal() == other.Reveal() }
