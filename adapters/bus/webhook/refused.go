package webhook

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// The codes of deliveries that failed without a status; one with a status has http_404 and the like.
const (
	CodeConnect   = "connect"           // no connection
	CodeDNS       = "dns"               // no address of the name
	CodeForbidden = "forbidden_address" // no public address, nor one of an allowed network
	CodeTLS       = "tls"               // no certificate to trust, or no TLS 1.2
	CodeTimeout   = "timeout"           // no answer in time
	CodeRedirect  = "redirect"          // one that is not followed
	CodeTooLarge  = "too_large"         // an answer with too many headers; by HTTP/2, CodeNoAnswer when they are far too many
	CodeNoAnswer  = "no_answer"         // the connection broke off, or the answer is not HTTP
)

// longestRetryAfter bounds what a receiver may ask for.
const longestRetryAfter = 24 * time.Hour

// Refused is a delivery that failed: the receiver could not be reached, or did not answer with 2xx. Nothing that it shows was sent by
// the receiver, but for the status.
type Refused struct {
	status int
	code   string
	after  time.Duration
	detail string
}

func (r *Refused) Error() string {
	if r.detail == "" {
		return "webhook: " + r.code
	}
	return "webhook: " + r.code + ": " + r.detail
}

// Code is a stable word: one of the constants, or http_ and a status.
func (r *Refused) Code() string { return r.code }

// Status is that of the answer, also of a redirect that is not followed; 0 without an answer.
func (r *Refused) Status() int { return r.status }

// Permanent says that the receiver will not take the same message later either: 4xx but for 408, 425 and 429.
func (r *Refused) Permanent() bool {
	switch r.status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return false
	default:
		return r.status >= 400 && r.status < 500
	}
}

// Gone says that the receiver wants no more messages, ever (410).
func (r *Refused) Gone() bool { return r.status == http.StatusGone }

// RetryAfter is how long the receiver asks to be left alone: 0 if it does not, at most a day.
func (r *Refused) RetryAfter() time.Duration { return r.after }

func refusedByStatus(answer *http.Response, now time.Time) *Refused {
	r := &Refused{status: answer.StatusCode, code: "http_" + strconv.Itoa(answer.StatusCode), after: retryAfter(answer.Header.Get("Retry-After"), now)}
	if answer.StatusCode >= 300 && answer.StatusCode < 400 {
		r.code, r.detail = CodeRedirect, fmt.Sprintf("status %d", answer.StatusCode)
	}
	return r
}

// retryAfter reads seconds or a date (RFC 9110, 10.2.3); anything else is 0.
func retryAfter(value string, now time.Time) time.Duration {
	value = strings.TrimSpace(value)
	if value != "" && strings.Trim(value, "0123456789") == "" {
		seconds, err := strconv.ParseInt(value, 10, 64)
		if err != nil || seconds > int64(longestRetryAfter/time.Second) {
			return longestRetryAfter
		}
		return time.Duration(seconds) * time.Second
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	return min(max(at.Sub(now), 0), longestRetryAfter)
}

// refusedBy puts an error of the transport under its code, without its text, which may have come from the receiver.
func refusedBy(err error, connected, handshook bool) *Refused {
	var (
		address *forbidden
		name    *net.DNSError
		errno   syscall.Errno
	)
	switch {
	case errors.As(err, &address):
		return &Refused{code: CodeForbidden, detail: address.Error()}
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), timedOut(err):
		return &Refused{code: CodeTimeout}
	case errors.As(err, &name):
		return &Refused{code: CodeDNS}
	case !handshook || tlsProblem(err) != "":
		return &Refused{code: CodeTLS, detail: tlsProblem(err)}
	case strings.Contains(err.Error(), "response headers exceeded"), strings.Contains(err.Error(), "response header list larger"):
		return &Refused{code: CodeTooLarge, detail: "the answer's headers"} // net/http has no type for either
	case connected:
		return &Refused{code: CodeNoAnswer}
	case errors.As(err, &errno):
		return &Refused{code: CodeConnect, detail: errno.Error()}
	}
	return &Refused{code: CodeConnect}
}

func timedOut(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

func tlsProblem(err error) string {
	var (
		host    x509.HostnameError
		unknown x509.UnknownAuthorityError
		invalid x509.CertificateInvalidError
		other   *tls.CertificateVerificationError
	)
	switch {
	case errors.As(err, &host):
		return "the certificate is for another name"
	case errors.As(err, &unknown):
		return "nobody who is trusted has signed the certificate"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "the certificate has expired or is not valid yet"
	case errors.As(err, &invalid), errors.As(err, &other):
		return "the certificate is not valid"
	}
	return ""
}
