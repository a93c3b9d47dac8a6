package sources

import (
	"encoding/json"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/tenure-dev/tenure/commands"
	"github.com/tenure-dev/tenure/domain"
)

// maxEvent is the most bytes of a message's payload: as many as of a request to the API.
const maxEvent = 1 << 20

// The codes of messages that can never be understood, and so are parked at once; besides them the codes of errors
// (domain.Code) stand, and too_large among them.
const (
	CodeMalformed   = "malformed"       // no JSON object in UTF-8, or an attribute that stands twice or is no text
	CodeSpecVersion = "bad_specversion" // not 1.0
	CodeID          = "bad_id"          // no idempotency key
	CodeType        = "unknown_type"    // no command that callers may send
	CodeData        = "bad_data"        // no JSON object, or data_base64
	CodeReply       = "reply_failed"    // the command was carried out or refused, but nobody could be told
)

// request is a CloudEvent that names a command.
type request struct {
	kind
	id         string
	data       json.RawMessage
	extensions map[string]json.RawMessage
	replyTo    string // as the message wishes; empty if it does not
}

// read takes an event apart as far as it must be understood to be answered. The code is empty if it is.
func read(m *message.Message, known map[string]kind) (r request, code string) {
	if len(m.Payload) > maxEvent {
		return r, string(domain.CodeTooLarge)
	}
	members, twice, err := object(m.Payload)
	if err != nil || twice != "" || !utf8.Valid(m.Payload) {
		return r, CodeMalformed
	}
	all := map[string]json.RawMessage{}
	for _, each := range members {
		all[each.name] = each.value
	}
	text := func(name string) (s string) {
		if v, ok := all[name]; ok && (string(v) == "null" || json.Unmarshal(v, &s) != nil) && code == "" {
			code = CodeMalformed
		}
		return s
	}
	version, id, kindName, content := text("specversion"), text("id"), text("type"), text("datacontenttype")
	r.id, r.data, r.extensions = id, all["data"], all
	r.kind = known[kindName]
	_, isBinary := all["data_base64"]
	switch {
	case code != "":
	case version != "1.0":
		code = CodeSpecVersion
	case domain.CheckReference("id", id) != nil:
		code = CodeID
	case r.name == "":
		code = CodeType
	case isBinary || !strings.HasPrefix(string(r.data), "{") || !isJSON(content):
		code = CodeData
	}
	return r, code
}

// isJSON tells whether a media type is JSON, as the absent one is.
func isJSON(media string) bool {
	media, _, _ = strings.Cut(media, ";")
	media = strings.ToLower(strings.TrimSpace(media))
	return media == "" || media == "application/json" || strings.HasSuffix(media, "+json")
}

// extension is an attribute that must be a text where it stands.
func (r request) extension(name string) (string, error) {
	if v, ok := r.extensions[name]; ok {
		return textOf(name, v)
	}
	return "", nil
}

var (
	topicForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:/-]{0,254}$`)
	traceForm = regexp.MustCompile(`^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$`)
)

// wishes finds where the answer shall go: the extension replyto or the metadata's.
func (r *request) wishes(c Config, m *message.Message) error {
	topic, err := r.extension("replyto")
	if err != nil {
		return err
	}
	if topic == "" {
		topic = m.Metadata.Get("replyto")
	}
	switch {
	case topic == "":
		return nil
	case !topicForm.MatchString(topic):
		return domain.Invalid("replyto", "must be a topic of up to 255 of A-Z, a-z, 0-9 and . _ : / -")
	case len(c.ReplyTo) > 0 && !fits(topic, c.ReplyTo):
		return &domain.Error{Code: domain.CodeForbidden, Field: "replyto", Message: "names a topic that this source does not answer to"}
	}
	r.replyTo = topic
	return nil
}

// call makes the call of a request, as far as this source lets it.
func (r request) call(c Config) (call commands.Call, err error) {
	call.Key, call.Actor = r.id, c.Actor
	if len(c.Commands) > 0 && !slices.Contains(c.Commands, r.name) {
		return call, &domain.Error{Code: domain.CodeForbidden, Message: "this source does not take " + r.name}
	}
	actor, err := r.extension("actor")
	if err != nil {
		return call, err
	}
	if actor != "" && actor != c.Actor {
		if domain.CheckReference("actor", actor) != nil || !fits(actor, c.Actors) {
			return call, &domain.Error{Code: domain.CodeForbidden, Field: "actor", Message: "names somebody for whom this source does not speak"}
		}
		call.Actor = actor
	}
	if call.Expected, err = r.expected(); err != nil {
		return call, err
	}
	if trace, err := r.extension("traceparent"); err == nil && traceForm.MatchString(trace) {
		call.Traceparent = trace
	}
	call.Command, err = r.command(r.data)
	return call, err
}

// expected is the revision that the sender saw: a number or, as CloudEvents' own numbers are small, a text of one.
func (r request) expected() (*int64, error) {
	v, ok := r.extensions["expectedrevision"]
	if !ok || string(v) == "null" {
		return nil, nil
	}
	n, err := strconv.ParseInt(strings.Trim(string(v), `"`), 10, 64)
	if err != nil {
		return nil, domain.Invalid("expectedRevision", "must be a whole number")
	}
	return &n, nil
}

// fits tells whether a name is one of some, or begins with one that ends in a star.
func fits(name string, allowed []string) bool {
	return slices.ContainsFunc(allowed, func(a string) bool {
		prefix, wild := strings.CutSuffix(a, "*")
		return a == name || wild && strings.HasPrefix(name, prefix)
	})
}
