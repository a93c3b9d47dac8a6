package graphql

import (
	"bytes"
	"encoding/json"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/vektah/gqlparser/v2/gqlerror"

	"github.com/tenure-dev/tenure/domain"
)

// takeBody reads the body into memory, bounded in size and time, and refuses what is no GraphQL request before gqlgen
// sees it, which would repeat the body in its answer.
func takeBody(w http.ResponseWriter, r *http.Request) (status int, err *domain.Error) {
	r.Header.Del("Upgrade") // some clients offer HTTP/2 with it, and gqlgen's POST would decline
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		return http.StatusMethodNotAllowed, domain.Invalid("", "use POST, or a WebSocket with the subprotocol graphql-transport-ws")
	}
	if kind, _, e := mime.ParseMediaType(r.Header.Get("Content-Type")); e != nil || kind != "application/json" {
		return http.StatusUnsupportedMediaType, domain.Invalid("", "send the header Content-Type: application/json")
	}
	tooLarge := &domain.Error{Code: domain.CodeTooLarge, Message: "the body must not be larger than 1 MB"}
	if r.ContentLength > maxBody {
		return http.StatusRequestEntityTooLarge, tooLarge
	}
	defer bounded(w)()
	body, e := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	switch {
	case e != nil:
		return http.StatusBadRequest, domain.Invalid("", "the body could not be read to its end")
	case len(body) > maxBody:
		return http.StatusRequestEntityTooLarge, tooLarge
	}
	var form struct {
		Query         string                     `json:"query"`
		OperationName string                     `json:"operationName"`
		Variables     map[string]json.RawMessage `json:"variables"`
		Extensions    map[string]json.RawMessage `json:"extensions"`
	}
	if json.Unmarshal(body, &form) != nil || form.Query == "" {
		return http.StatusBadRequest, domain.Invalid("", "the body must be one JSON object with query and, if wanted, variables and operationName")
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	return 0, nil
}

// refuse answers a request that does not reach the schema, in the shape of a GraphQL answer. What the client is still sending
// is read away first: a connection that is closed upon unread data is reset, and the client would never see the answer.
func (h *Handler) refuse(w http.ResponseWriter, r *http.Request, status int, err *domain.Error) {
	if r.Header.Get("Expect") == "" && r.ContentLength <= maxDrain && r.Body != nil {
		stop := bounded(w)
		_, _ = io.CopyN(io.Discard, r.Body, maxDrain)
		stop()
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"errors": []*gqlerror.Error{h.faults.present(r.Context(), err)}})
}

// past is a deadline that has passed by every clock.
var past = time.Unix(1, 0)

// bounded gives the reading of a body bodyTimeout until the returned function is called.
func bounded(w http.ResponseWriter) (stop func() bool) {
	return time.AfterFunc(bodyTimeout, func() { _ = http.NewResponseController(w).SetReadDeadline(past) }).Stop
}

// isUpgrade tells whether the client wants a WebSocket.
func isUpgrade(r *http.Request) bool { return strings.EqualFold(r.Header.Get("Upgrade"), "websocket") }

// sameOrigin tells whether a browser's page, if it is one, comes from this server.
func sameOrigin(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if origin == "" {
		return true
	}
	u, err := url.Parse(origin)
	return err == nil && strings.EqualFold(u.Host, r.Host)
}

// promptWriter is a ResponseWriter on which no write waits for ever, and which takes nothing any more once the request is
// over: gqlgen's keep-alive of server-sent events may still be at it then.
type promptWriter struct {
	http.ResponseWriter
	control *http.ResponseController
	mu      sync.Mutex
	began   bool
	over    bool
}

func newPromptWriter(w http.ResponseWriter) *promptWriter {
	return &promptWriter{ResponseWriter: w, control: http.NewResponseController(w)}
}

// WriteHeader answers a document that does not fit the schema with 400, as the specification of GraphQL over HTTP has it;
// gqlgen says 422.
func (p *promptWriter) WriteHeader(status int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.began || p.over {
		return
	}
	p.began = true
	if status == http.StatusUnprocessableEntity {
		status = http.StatusBadRequest
	}
	p.ResponseWriter.WriteHeader(status)
}

func (p *promptWriter) Write(b []byte) (n int, err error) {
	err = p.within(func() error { n, err = p.ResponseWriter.Write(b); return err })
	return n, err
}

// Flush implements http.Flusher.
func (p *promptWriter) Flush() { _ = p.within(p.control.Flush) }

func (p *promptWriter) within(do func() error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over {
		return http.ErrHandlerTimeout
	}
	p.began = true
	late := time.AfterFunc(writeTimeout, func() { _ = p.control.SetWriteDeadline(past) })
	defer late.Stop()
	return do()
}

func (p *promptWriter) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.over = true
}
