package settings_test

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/tenure-dev/tenure/adapters/bus/settings"
	"github.com/tenure-dev/tenure/domain"
)

const (
	hidden = "hidden-value" // what the variable SECRET and the file /secret hold
	pem    = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
)

// section reads YAML as the section part, with a few variables and files.
func section(t *testing.T, text string) *settings.Section {
	t.Helper()
	var n yaml.Node
	if err := yaml.Unmarshal([]byte(text), &n); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	variables := map[string]string{"SECRET": hidden, "EMPTY": "", "FIVE": "5", "SOON": "5s", "YES": "true", "WORD": "two", "ROOTS": "/roots.pem"}
	files := map[string]string{"/secret": hidden + "\r\n", "/empty": "\n", "/roots.pem": pem, "/nothing.pem": ""}
	return settings.New("part", &n, settings.Secrets{
		Env: func(name string) (string, bool) { value, set := variables[name]; return value, set },
		File: func(path string) ([]byte, error) {
			if content, there := files[path]; there {
				return []byte(content), nil
			}
			return nil, os.ErrNotExist
		}})
}

// values is one key of every kind, with its default.
type values struct {
	Text, Word                        string
	Texts, Some                       []string
	Number                            int
	Bool                              bool
	Duration, Within                  time.Duration
	Certificates, Below, Kind, Needed string
}

func read(s *settings.Section) (v values, err error) {
	below := s.Section("below")
	v = values{Text: s.Text("text", "t"), Word: s.OneOf("word", "one", "two"), Texts: s.Texts("texts"), Some: s.Some("some"),
		Number: s.Number("number", 3, 1, 100_000), Bool: s.Bool("bool", true), Duration: s.Duration("duration", time.Second),
		Within: s.DurationWithin("within", time.Second, time.Second, time.Minute), Certificates: string(s.Certificates("certificates")),
		Below: below.Text("text", ""), Needed: s.Required("needed")}
	_ = below.Err()
	v.Kind, _ = s.One([]string{"first", "second"})
	return v, s.Err()
}

func TestASectionRefusesByTheFullPath(t *testing.T) {
	const text = "must be a text, {env: NAME} or {file: PATH}"
	const keys = "(there are: below, bool, certificates, duration, first, needed, number, second, some, text, texts, within, word)"
	for given, want := range map[string]string{
		"[a, b]":                               "part must be a mapping",
		"text":                                 "part must be a mapping",
		"{below: [a]}":                         "part.below must be a mapping",
		"{below: {text: [a]}}":                 "part.below.text " + text,
		"{below: {colour: a}}":                 "part.below.colour is not known (there are: text)",
		"{text: a, text: b}":                   "part.text stands twice",
		"{<<: {text: a}}":                      "part.<< is not known " + keys,
		"{text: null}":                         "part.text " + text,
		"{text: [a]}":                          "part.text " + text,
		"{text: {}}":                           "part.text " + text,
		"{text: {env: SECRET, file: /secret}}": "part.text " + text,
		"{text: {vault: a}}":                   "part.text.vault is not known (there are: env, file)",
		"{text: {env: SECRET, env: SECRET}}":   "part.text.env stands twice",
		"{text: {env: [SECRET]}}":              "part.text.env must be a text",
		"{text: {env: {env: SECRET}}}":         "part.text.env must be a text",
		"{text: {env: UNSET}}":                 "part.text.env names the variable UNSET, which is not set",
		"{text: {env: EMPTY}}":                 "part.text.env names the variable EMPTY, which is not set",
		"{text: {file: /gone}}":                "part.text.file names the file /gone, which cannot be read or is empty",
		"{text: {file: /empty}}":               "part.text.file names the file /empty, which cannot be read or is empty",
		"{word: three}":                        "part.word must be one of one, two",
		"{word: {env: SECRET}}":                "part.word must be one of one, two",
		"{texts: a}":                           "part.texts must be a list",
		"{texts: null}":                        "part.texts must be a list",
		"{texts: [a, [b]]}":                    "part.texts[1] " + text,
		"{texts: [a, {env: UNSET}]}":           "part.texts[1].env names the variable UNSET, which is not set",
		"{some: []}":                           "part.some must not be empty: leave it out",
		"{number: 0}":                          "part.number must be a whole number from 1 to 100000",
		"{number: 100001}":                     "part.number must be a whole number from 1 to 100000",
		"{number: 99999999999999999999}":       "part.number must be a whole number from 1 to 100000",
		"{number: 1.5}":                        "part.number must be a whole number from 1 to 100000",
		"{number: {env: SECRET}}":              "part.number must be a whole number from 1 to 100000",
		"{bool: 1}":                            "part.bool must be true or false",
		"{bool: yes}":                          "part.bool must be true or false",
		"{bool: {file: /secret}}":              "part.bool must be true or false",
		"{duration: 0s}":                       "part.duration must be a duration above 0, such as 10s",
		"{duration: 10}":                       "part.duration must be a duration above 0, such as 10s",
		"{duration: {env: SECRET}}":            "part.duration must be a duration above 0, such as 10s",
		"{within: 999ms}":                      "part.within must be a duration from 1s to 1m0s, such as 10s",
		"{within: 61s}":                        "part.within must be a duration from 1s to 1m0s, such as 10s",
		"{certificates: /gone}":                "part.certificates must be certificates in PEM, or the path of a file that holds them",
		"{certificates: /nothing.pem}":         "part.certificates must be certificates in PEM, or the path of a file that holds them",
		"{certificates: {env: SECRET}}":        "part.certificates must be certificates in PEM, or the path of a file that holds them",
		"{certificates: ''}":                   "part.certificates must be certificates in PEM, or the path of a file that holds them",
		"{certificates: [/roots.pem]}":         "part.certificates " + text,
		"{first: {}, second: {}}":              "part.second must not stand beside first",
		"{needed: a}":                          "part must have one of first, second",
		"{needed: a, first: {}, colour: red}":  "part.colour is not known " + keys,
		"{first: {}}":                          "part.needed must be given",
		"{first: {}, needed: ''}":              "part.needed must be given",
		"{neeeded: a, number: 0}":              "part.number must be a whole number from 1 to 100000", // a value goes before a key
		"{first: {}, neeeded: a}":              "part.neeeded is not known " + keys,
	} {
		_, err := read(section(t, given))
		if e, ok := errors.AsType[*domain.Error](err); !ok || e.Code != domain.CodeInvalid || e.Error() != want {
			t.Errorf("%s: %v, want %s", given, err, want)
		} else if strings.Contains(fmt.Sprintf("%#v", e), hidden) {
			t.Errorf("%s: %#v shows the value", given, e)
		}
	}
}

func TestASectionGivesWhatStandsThere(t *testing.T) {
	standard := values{Text: "t", Word: "one", Number: 3, Bool: true, Duration: time.Second, Within: time.Second, Kind: "first", Needed: "a"}
	for given, change := range map[string]func(*values){
		"":                               func(*values) {},
		"below: null":                    func(*values) {},
		"below: {text: b}":               func(v *values) { v.Below = "b" },
		"below: {text: {env: SECRET}}":   func(v *values) { v.Below = hidden },
		"text: ''":                       func(v *values) { v.Text = "" },
		"text: 7":                        func(v *values) { v.Text = "7" },
		"text: {env: SECRET}":            func(v *values) { v.Text = hidden },
		"text: {file: /secret}":          func(v *values) { v.Text = hidden },
		"word: two":                      func(v *values) { v.Word = "two" },
		"word: {env: WORD}":              func(v *values) { v.Word = "two" },
		"texts: []":                      func(*values) {},
		"texts: [a, {file: /secret}, b]": func(v *values) { v.Texts = []string{"a", hidden, "b"} },
		"some: [a]":                      func(v *values) { v.Some = []string{"a"} },
		"number: 012":                    func(v *values) { v.Number = 12 },
		"number: {env: FIVE}":            func(v *values) { v.Number = 5 },
		"bool: false":                    func(v *values) { v.Bool = false },
		"bool: FALSE":                    func(v *values) { v.Bool = false },
		"bool: {env: YES}":               func(*values) {},
		"duration: 1ns":                  func(v *values) { v.Duration = 1 },
		"duration: {env: SOON}":          func(v *values) { v.Duration = 5 * time.Second },
		"within: 1m":                     func(v *values) { v.Within = time.Minute },
		"certificates: /roots.pem":       func(v *values) { v.Certificates = pem },
		"certificates: {env: ROOTS}":     func(v *values) { v.Certificates = pem },
		// A text loses the line end that closes its file.
		"certificates: {file: /roots.pem}":                 func(v *values) { v.Certificates = strings.TrimSpace(pem) },
		"text: &x b, below: {text: *x}, texts: [*x]":       func(v *values) { v.Text, v.Below, v.Texts = "b", "b", []string{"b"} },
		"texts: &x [b], some: *x":                          func(v *values) { v.Texts, v.Some = []string{"b"}, []string{"b"} },
		"text: &x {env: SECRET}, below: {text: *x}":        func(v *values) { v.Text, v.Below = hidden, hidden },
		"text: {env: &x SECRET}, below: {text: {env: *x}}": func(v *values) { v.Text, v.Below = hidden, hidden },
		"text: &x word, *x : two":                          func(v *values) { v.Text, v.Word = "word", "two" },
	} {
		want := standard
		change(&want)
		got, err := read(section(t, "{first: {}, needed: a, "+given+"}"))
		if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: %+v, %v, want %+v", given, got, err, want)
		}
	}
	for _, given := range []string{"", "null", "{}", "---\n"} {
		if s := section(t, given); s.Err() != nil || s.Keys() != nil || s.Has("text") {
			t.Errorf("%q is not empty: %v, %v", given, s.Keys(), s.Err())
		}
	}
	if keys := section(t, "{b: 1, a: 2}").Keys(); !slices.Equal(keys, []string{"b", "a"}) {
		t.Errorf("the keys are %v, not in their order", keys)
	}
}

func TestAnErrorOfAValueIsLocated(t *testing.T) {
	s := section(t, "below: {}").Section("below")
	if err := s.Locate(nil); err != nil {
		t.Errorf("of nothing: %v", err)
	}
	cause := errors.New("why")
	err := s.Locate(fmt.Errorf("wrapped: %w", &domain.Error{Code: domain.CodeInvalid, Field: "url[0]", Message: "is wrong", Cause: cause}))
	if e, ok := errors.AsType[*domain.Error](err); !ok || e.Public() != "part.below.url[0] is wrong" || !errors.Is(err, cause) {
		t.Errorf("of a field: %v", err)
	}
	if err := s.Locate(cause); err.Error() != "part.below: why" || !errors.Is(err, cause) {
		t.Errorf("of none: %v", err)
	}
	if err := settings.New("", nil, settings.Secrets{}).Locate(domain.Invalid("url", "is wrong")); err.Error() != "url is wrong" {
		t.Errorf("at the top: %v", err)
	}
}
