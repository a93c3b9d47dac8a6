package broker

import (
	"regexp"
	"strings"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/tenure-dev/tenure/domain"
)

// absentPart stands in an address for what a message does not have, and for each character that the broker forbids.
const absentPart = "_"

var (
	placeholder = regexp.MustCompile(`\{[^{}]*\}`)
	placeNames  = []string{"type", "org", "tenant", "stream"} // keys of the metadata
)

// template makes an address (NATS: subject, AMQP: routing key) out of a message's metadata.
type template struct {
	text      string
	forbidden *regexp.Regexp
	most      int // bytes of an address
}

// parseTemplate refuses placeholders that there are not, and forbidden characters.
func parseTemplate(field, text string, forbidden *regexp.Regexp, most int) (template, error) {
	t := template{text, forbidden, most}
	if text == "" {
		return t, domain.Invalid(field, "must be given")
	}
	for _, found := range placeholder.FindAllString(text, -1) {
		if !strings.Contains("{"+strings.Join(placeNames, "}{")+"}", found) || found == "{}" {
			return t, domain.Invalid(field, "holds %s; there are {%s}", found, strings.Join(placeNames, "}, {"))
		}
	}
	fixed := placeholder.ReplaceAllString(text, "x")
	if strings.ContainsAny(fixed, "{}") {
		return t, domain.Invalid(field, "holds a brace that does not belong to a placeholder")
	}
	if bad := forbidden.FindString(fixed); bad != "" {
		return t, domain.Invalid(field, "holds %q, which the broker forbids", bad)
	}
	if len(fixed) > most {
		return t, domain.Invalid(field, "must be at most %d bytes", most)
	}
	return t, nil
}

// of is a message's address.
func (t template) of(m *message.Message) (string, error) {
	address := placeholder.ReplaceAllStringFunc(t.text, func(found string) string {
		value := m.Metadata.Get(strings.Trim(found, "{}"))
		if value == "" {
			return absentPart
		}
		return t.forbidden.ReplaceAllStringFunc(value, func(bad string) string { return strings.Repeat(absentPart, len(bad)) })
	})
	if len(address) > t.most {
		return "", &Failure{code: CodeInvalid, permanent: true, text: "its address is too long for the broker"}
	}
	return address, nil
}

// NATS splits subjects at dots: no part may be empty. AMQP's binding keys give * and # a meaning.
var (
	subjectForbids    = regexp.MustCompile(`[\s*>\x00-\x1f\x7f]|^\.|\.$|\.\.+`)
	routingKeyForbids = regexp.MustCompile(`[\s*#\x00-\x1f\x7f]`)
)
