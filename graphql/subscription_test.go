package graphql_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"

	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/domain/saga"
	"github.com/tenure-dev/tenure/domain/tenant"
)

// frame is one message of graphql-transport-ws, or one server-sent event.
type frame struct {
	ID      string          `json:"id,omitempty"`
	Type    string          `json:"type"`
	Payload json.RawMessage `json:"payload,omitempty"`
}

func (f frame) String() string { return f.Type + " " + string(f.Payload) }

// client is a subscriber over either transport.
type client interface {
	next() frame
	leave()
}

// transports subscribe in either way.
var transports = map[string]func(r *rig, query string) client{
	"over WebSocket":        func(r *rig, query string) client { return r.subscribeWS(query) },
	"by server-sent events": func(r *rig, query string) client { return r.subscribeSSE(query) },
}

type wsClient struct {
	r    *rig
	conn *websocket.Conn
	ctx  context.Context
}

// dial opens a WebSocket; the token goes into the handshake, or into the first message, or nowhere.
func (r *rig) dial(header, payload string) *wsClient {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	r.t.Cleanup(cancel)
	h := http.Header{}
	if header != "" {
		h.Set("Authorization", header)
	}
	conn, _, err := websocket.Dial(ctx, strings.Replace(r.url, "http", "ws", 1), &websocket.DialOptions{Subprotocols: []string{"graphql-transport-ws"}, HTTPHeader: h})
	if err != nil {
		r.t.Fatal(err)
	}
	c := &wsClient{r, conn, ctx}
	r.t.Cleanup(func() { _ = conn.CloseNow() })
	init := frame{Type: "connection_init"}
	if payload != "" {
		init.Payload, _ = json.Marshal(map[string]string{"authorization": payload})
	}
	c.send(init)
	return c
}

func (c *wsClient) send(f frame) {
	c.r.t.Helper()
	if err := wsjson.Write(c.ctx, c.conn, f); err != nil {
		c.r.t.Fatal(err)
	}
}

func (c *wsClient) next() (f frame) {
	c.r.t.Helper()
	for f.Type == "" || f.Type == "ping" {
		if err := wsjson.Read(c.ctx, c.conn, &f); err != nil {
			c.r.t.Fatal(err)
		}
	}
	return f
}

func (c *wsClient) leave() { c.send(frame{ID: "1", Type: "complete"}) }

func (r *rig) subscribeWS(query string) *wsClient {
	r.t.Helper()
	c := r.dial("", "Bearer "+token)
	if f := c.next(); f.Type != "connection_ack" {
		r.t.Fatalf("answered %s", f)
	}
	c.subscribe(query)
	return c
}

func (c *wsClient) subscribe(query string) {
	c.r.t.Helper()
	payload, _ := json.Marshal(map[string]string{"query": query})
	c.send(frame{ID: "1", Type: "subscribe", Payload: payload})
}

type sseClient struct {
	r      *rig
	body   io.ReadCloser
	lines  *bufio.Scanner
	cancel context.CancelFunc
}

func (r *rig) subscribeSSE(query string) *sseClient {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	r.t.Cleanup(cancel)
	payload, _ := json.Marshal(map[string]string{"query": query})
	req, _ := http.NewRequestWithContext(ctx, http.MethodPost, r.url, bytes.NewReader(payload))
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "text/event-stream")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = resp.Body.Close() })
	if kind := resp.Header.Get("Content-Type"); resp.StatusCode != http.StatusOK || kind != "text/event-stream" {
		r.t.Fatalf("answered %d %s", resp.StatusCode, kind)
	}
	return &sseClient{r, resp.Body, bufio.NewScanner(resp.Body), cancel}
}

func (c *sseClient) next() (f frame) {
	c.r.t.Helper()
	for c.lines.Scan() {
		line := c.lines.Text()
		if kind, ok := strings.CutPrefix(line, "event: "); ok {
			f.Type = kind
		}
		if data, ok := strings.CutPrefix(line, "data: "); ok {
			f.Payload = json.RawMessage(data)
		}
		if line == "" && f.Type != "" {
			return f
		}
	}
	c.r.t.Fatalf("the stream ended: %v", c.lines.Err())
	return f
}

func (c *sseClient) leave() { c.cancel() }

// wantNext wants a message that holds all of that.
func wantNext(t *testing.T, c client, parts ...string) {
	t.Helper()
	f := c.next()
	for _, part := range parts {
		if f.Type != "next" || !strings.Contains(string(f.Payload), part) {
			t.Fatalf("received %s, want %s", f, part)
		}
	}
}

func TestATenantIsShownNowAndAfterEveryChange(t *testing.T) {
	for name, subscribe := range transports {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			planeID := r.aPlane()
			id, _ := r.aTenant(r.anOrg(), r.aTier("standard"), "first")
			c := subscribe(r, fmt.Sprintf(`subscription { tenantChanged(id: %q) { phase revision causes { reference reason } plane { id } org { name } } }`, id))
			wantNext(t, c, `"phase":"requested","revision":0`, `"org":{"name":"Acme"}`)
			r.log.hold(true) // so that all changes come in one batch: none may be left out
			for i := range 5 {
				r.execute(tenant.Suspend{TenantID: id, Cause: tenant.Cause{Kind: "billing", Reference: itoa(i)}, Reason: domain.Clear("unpaid")})
			}
			r.execute(tenant.Place{TenantID: id, Change: 1, PlaneID: planeID})
			r.log.hold(false)
			for i := range 5 {
				wantNext(t, c, fmt.Sprintf(`"revision":%d`, i+1), fmt.Sprintf(`{"reference":"%d","reason":"unpaid"}`, i))
			}
			wantNext(t, c, `"phase":"provisioning","revision":6`, planeID)
			r.execute(tenant.Activate{TenantID: id, Change: 1, Suspended: true})
			wantNext(t, c, `"phase":"suspended","revision":7`)
			c.leave()
		})
	}
}

func TestASagaIsShownStepByStepUntilItEnds(t *testing.T) {
	for name, subscribe := range transports {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			id, sagaID := r.aTenant(r.anOrg(), r.aTier("standard"), "first")
			// The saga has been answered by the mutation, and has not begun.
			c := subscribe(r, fmt.Sprintf(`subscription { sagaChanged(id: %q) { state step steps { name state attempt lastError } tenant { slug } } }`, sagaID))
			<-r.waits
			r.begins(tenant.Onboarding, sagaID, id)
			r.facts(tenant.Onboarding, sagaID,
				saga.Asked{Step: "reserve slug", Attempt: 1, CommandID: "c"}, saga.Answered{Step: "reserve slug", CommandID: "c"},
				saga.Chosen{Step: "choose plane"}, saga.Ended{Outcome: saga.OutcomeSucceeded})
			wantNext(t, c, `"state":"running","step":null,"steps":[],"tenant":{"slug":"first"}`)
			wantNext(t, c, `"step":"reserve slug","steps":[{"name":"reserve slug","state":"running","attempt":1,"lastError":null}]`)
			wantNext(t, c, `"steps":[{"name":"reserve slug","state":"done","attempt":1,"lastError":null}]`)
			wantNext(t, c, `"steps":[{"name":"reserve slug","state":"done","attempt":1,"lastError":null},{"name":"choose plane","state":"done","attempt":1,"lastError":null}]`)
			wantNext(t, c, `"state":"succeeded","step":null`)
			if f := c.next(); f.Type != "complete" {
				t.Fatalf("received %s, want complete", f)
			}
			// One that has ended is shown once.
			c = subscribe(r, fmt.Sprintf(`subscription { sagaChanged(id: %q) { state steps { name } } }`, sagaID))
			wantNext(t, c, `"state":"succeeded","steps":[{"name":"reserve slug"},{"name":"choose plane"}]`)
			if f := c.next(); f.Type != "complete" {
				t.Fatalf("received %s, want complete", f)
			}
		})
	}
}

func TestAnUnknownObjectCannotBeWatched(t *testing.T) {
	for name, subscribe := range transports {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			close(r.late)
			for field, id := range map[string]string{"tenantChanged": domain.NewID("ten", "a", "b", "c"), "sagaChanged": domain.NewID("sag", "a", "b", "c")} {
				c := subscribe(r, fmt.Sprintf(`subscription { %s(id: %q) { id } }`, field, id))
				if f := c.next(); !strings.Contains(f.String(), `"code":"NOT_FOUND"`) || !strings.Contains(f.String(), `"field":"id"`) {
					t.Errorf("received %s", f)
				}
				if f := c.next(); f.Type != "complete" {
					t.Errorf("received %s", f)
				}
				c = subscribe(r, fmt.Sprintf(`subscription { %s(id: "nonsense") { id } }`, field))
				if f := c.next(); !strings.Contains(f.String(), `"code":"INVALID"`) {
					t.Errorf("received %s", f)
				}
			}
		})
	}
}

func TestASubscriberThatDoesNotKeepUpIsCutOff(t *testing.T) {
	for name, subscribe := range transports {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			id, _ := r.aTenant(r.anOrg(), r.aTier("standard"), "first")
			r.keys.opened, r.keys.gate = make(chan struct{}, 1000), make(chan struct{})
			c := subscribe(r, fmt.Sprintf(`subscription { tenantChanged(id: %q) { revision causes { reason } } }`, id))
			wantNext(t, c, `"revision":0`)
			suspend := func(i int) domain.Command {
				return tenant.Suspend{TenantID: id, Cause: tenant.Cause{Kind: "billing", Reference: itoa(i)}, Reason: domain.Clear("unpaid")}
			}
			r.execute(suspend(0))
			<-r.keys.opened // the subscriber is busy with the first change
			for i := range 3 * buffer {
				r.command(suspend(i + 1))
			}
			close(r.keys.gate)
			f := c.next()
			for seen := 0; f.Type == "next" && !strings.Contains(f.String(), "errors"); seen++ {
				if !strings.Contains(f.String(), fmt.Sprintf(`"revision":%d,`, seen+1)) || seen > buffer+2 {
					t.Fatalf("received %s as change %d", f, seen)
				}
				f = c.next()
			}
			if !strings.Contains(f.String(), `"code":"UNAVAILABLE"`) || !strings.Contains(f.String(), "too slow") {
				t.Fatalf("received %s", f)
			}
			if name == "over WebSocket" && f.Type != "error" {
				t.Errorf("received %s, want an error message", f)
			}
			if name != "over WebSocket" {
				if f := c.next(); f.Type != "complete" {
					t.Errorf("received %s", f)
				}
			}
		})
	}
}

func TestClosingTheHandlerEndsSubscriptions(t *testing.T) {
	r := newRig(t)
	id, _ := r.aTenant(r.anOrg(), r.aTier("standard"), "first")
	query := fmt.Sprintf(`subscription { tenantChanged(id: %q) { revision } }`, id)
	ws, sse := r.subscribeWS(query), r.subscribeSSE(query)
	wantNext(t, ws, `"revision":0`)
	wantNext(t, sse, `"revision":0`)
	closed := make(chan error)
	go func() { closed <- r.h.Close(t.Context()) }()
	for {
		if _, _, err := ws.conn.Read(ws.ctx); err != nil {
			break
		}
	}
	for sse.lines.Scan() {
	}
	if err := <-closed; err != nil {
		t.Fatal(err)
	}
	status, body := r.send(http.MethodPost, strings.NewReader(`{"query":"{ __typename }"}`), map[string]string{"Content-Type": "application/json", "Authorization": "Bearer " + token})
	wantRefusal(t, status, body, http.StatusServiceUnavailable, "UNAVAILABLE")
}

func TestAWebSocketNeedsTheToken(t *testing.T) {
	r := newRig(t)
	for name, payload := range map[string]string{"none": "", "a wrong one": "Bearer wrong", "a bare one": token} {
		t.Run(name, func(t *testing.T) {
			c := r.in(t).dial("", payload)
			_, _, err := c.conn.Read(c.ctx)
			if websocket.CloseStatus(err) != 4401 {
				t.Errorf("received %v, want close code 4401", err)
			}
		})
	}
	t.Run("a wrong one in the handshake", func(t *testing.T) {
		_, resp, err := websocket.Dial(t.Context(), strings.Replace(r.url, "http", "ws", 1), &websocket.DialOptions{
			Subprotocols: []string{"graphql-transport-ws"}, HTTPHeader: http.Header{"Authorization": {"Bearer wrong"}}})
		if err == nil || resp == nil || resp.StatusCode != http.StatusUnauthorized {
			t.Errorf("answered %v", err)
		}
	})
	t.Run("the right one in the handshake", func(t *testing.T) {
		c := r.in(t).dial("Bearer "+token, "")
		if f := c.next(); f.Type != "connection_ack" {
			t.Errorf("received %s", f)
		}
		c.subscribe(`{ __typename }`)
		wantNext(t, c, "Query")
	})
}

func TestASocketIsBoundedLikeABody(t *testing.T) {
	r := newRig(t)
	r.anOrg()
	c := r.subscribeWS(`{ orgs { nodes { name } } }`)
	wantNext(t, c, `"name":"Acme"`, `"extensions":{"position":"1.e1.`)
	if f := c.next(); f.Type != "complete" {
		t.Fatalf("received %s", f)
	}
	c.subscribe(`{ orgz { id } }`)
	if f := c.next(); f.Type != "error" || !strings.Contains(f.String(), `"code":"INVALID"`) {
		t.Fatalf("received %s", f)
	}
	c.next() // complete
	c.send(frame{ID: "2", Type: "subscribe", Payload: json.RawMessage(`{"query":"` + strings.Repeat("x", 2<<20) + `"}`)})
	if _, _, err := c.conn.Read(c.ctx); websocket.CloseStatus(err) != websocket.StatusMessageTooBig {
		t.Errorf("received %v", err)
	}
}
