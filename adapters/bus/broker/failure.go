package broker

import (
	"context"
	"errors"
	"net/url"
	"strings"
)

// The codes of a Failure.
const (
	CodeTooLarge     = "too_large"    // permanent: over a limit of the broker
	CodeInvalid      = "invalid"      // permanent: the broker cannot store such a message
	CodeUnroutable   = "unroutable"   // the stream, topic, exchange, queue or table is not there: somebody must make it
	CodeUnauthorized = "unauthorized" // the broker refuses our credentials, or these may not publish there
	CodeUnavailable  = "unavailable"  // away, stopping, overloaded; the outcome is unknown
	CodeTimeout      = "timeout"      // the context ended, or the target's timeout passed; the outcome is unknown
	CodeClosed       = "closed"       // the publisher is closed
)

// Failure is why a message was not published. Its text holds no credentials.
type Failure struct {
	code      string
	permanent bool
	text      string
	cause     error // a context's error or nil: others' errors may hold credentials
}

func (f *Failure) Error() string { return "broker: " + f.code + ": " + f.text }

// Code is one of the codes above.
func (f *Failure) Code() string { return f.code }

// Permanent tells that this message can never be published as it is, whatever the state of the broker.
func (f *Failure) Permanent() bool { return f.permanent }

// Unwrap gives the context's error if that ended the Publish.
func (f *Failure) Unwrap() error { return f.cause }

// verdict is what a broker's own error means; an empty code where that broker's rules have no word for it.
type verdict struct {
	code      string
	permanent bool
}

// fail makes a Failure of a broker's error.
func fail(err error, judge func(error) verdict, hide scrubber) error {
	var known *Failure
	if err == nil || errors.As(err, &known) {
		return err
	}
	f := &Failure{code: CodeUnavailable, text: hide.scrub(err.Error())}
	if v := judge(err); v.code != "" {
		f.code, f.permanent = v.code, v.permanent
	} else if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		f.code = CodeTimeout
	}
	for _, ended := range []error{context.DeadlineExceeded, context.Canceled} {
		if errors.Is(err, ended) {
			f.cause = ended
		}
	}
	return f
}

// scrubber holds what must not be said.
type scrubber []string

func (s scrubber) scrub(text string) string {
	for _, secret := range s {
		text = strings.ReplaceAll(text, secret, "…")
	}
	return text
}

// hiding makes a scrubber of secrets and of what is secret in URLs (comma-separated ones too). Texts of fewer than three
// bytes are not hidden: they would hide every text.
func hiding(secrets ...string) scrubber {
	var s scrubber
	add := func(texts ...string) {
		for _, t := range texts {
			if len(t) > 2 {
				s = append(s, t)
			}
		}
	}
	for _, secret := range secrets {
		for _, one := range strings.Split(secret, ",") {
			u, err := url.Parse(one)
			if err != nil || u.User == nil {
				continue
			}
			add(u.User.String())
			if password, set := u.User.Password(); set {
				add(password, url.QueryEscape(password), url.PathEscape(password))
			} else {
				add(u.User.Username()) // a token
			}
		}
		add(secret)
	}
	return s
}
