package eventstore

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	api "github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/tenure-dev/tenure/domain"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestAddressesAreCheckedAndNotRepeated(t *testing.T) {
	for _, bad := range []string{"", "http://h:1", "esdb://", "esdb://u:secret@h:x", "esdb://u:secret@h:1?tsl=false", "esdb://u:secret@h:1?tls=maybe", "esdb://u:secret@h:1?%zz", "esdb://u:sec ret@h:1"} {
		_, err := Open(t.Context(), Config{URL: bad})
		if domain.CodeOf(err) != domain.CodeInvalid || strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "sec ret") {
			t.Errorf("%q: %v", bad, err)
		}
	}
	c, err := parse("esdb://h:1?tls=false&gossipTimeout=5000")
	if err != nil || c.GossipTimeout != 5 || c.MaxDiscoverAttempts != 1 {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestOpenEndsInTimeThoughNobodyAnswers(t *testing.T) {
	mute, err := net.Listen("tcp", "127.0.0.1:0") // takes connections, says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	begin := time.Now()
	if _, err := Open(t.Context(), Config{URL: "esdb://" + mute.Addr().String() + "?tls=false&gossipTimeout=1", Timeout: 200 * time.Millisecond}); domain.CodeOf(err) != domain.CodeUnavailable {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := Open(ctx, Config{URL: "esdb://" + mute.Addr().String() + "?tls=false&gossipTimeout=1"}); domain.CodeOf(err) != domain.CodeUnavailable {
		t.Error(err)
	}
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("took %s", took)
	}
}

func TestCallsWaitForANodeThatComesBack(t *testing.T) {
	f := &fake{}
	l := opened(t, f, 10*time.Second)
	if _, err := l.Append(t.Context(), "x-1", -1, one("a")); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		f.server.Stop()
		answers := make(chan error, 20)
		for range cap(answers) {
			go func() {
				for { // the first calls meet the outage; the outcome of those is unknown
					_, err := l.Append(t.Context(), "x-1", -1, one("a"))
					if domain.CodeOf(err) != domain.CodeUnavailable {
						answers <- err
						return
					}
				}
			}()
		}
		eventually(t, "the dead client is given up", func() bool { l.calls.mu.Lock(); defer l.calls.mu.Unlock(); return l.calls.now == nil })
		f.serve(t)
		for range cap(answers) {
			if err := <-answers; err != nil {
				t.Error(err)
			}
		}
	}
}

func TestCallsToADeadNodeEndInTime(t *testing.T) {
	f := &fake{}
	l := opened(t, f, 300*time.Millisecond)
	f.server.Stop()
	for range 3 {
		begin := time.Now()
		_, err := l.Append(t.Context(), "x-1", -1, one("a"))
		if took := time.Since(begin); domain.CodeOf(err) != domain.CodeUnavailable || took > 3*time.Second {
			t.Errorf("%v after %s", err, took)
		}
	}
}

func TestUnavailableAnswersLeakNoConnections(t *testing.T) {
	f := &fake{append: func(n int, _ []*api.AppendReq) (*api.AppendResp, error) {
		if n <= 30 {
			return nil, status.Error(codes.Unavailable, "Server Is Not Ready")
		}
		return success(0, 1), nil
	}}
	l := opened(t, f, 5*time.Second)
	for range l.Read(t.Context(), "x-1", 0) { // connects
		t.Error("an event")
	}
	before := runtime.NumGoroutine()
	for i := range 30 {
		if _, err := l.Append(t.Context(), "x-1", -1, one("a")); domain.CodeOf(err) != domain.CodeUnavailable {
			t.Fatalf("%d: %v", i, err)
		}
	}
	if _, err := l.Append(t.Context(), "x-1", -1, one("a")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the old connections are closed", func() bool { _, _, _, live := f.counts(); return live == 2 })
	if _, _, accepted, _ := f.counts(); accepted != 32 {
		t.Errorf("%d connections were made: the client reconnected by itself", accepted)
	}
	eventually(t, "their goroutines have ended", func() bool { return runtime.NumGoroutine() <= before+5 })
}

func TestCallsUnderWayWhenANodeIsUnavailableStillEnd(t *testing.T) {
	hold := make(chan struct{})
	f := &fake{append: func(n int, _ []*api.AppendReq) (*api.AppendResp, error) {
		if n == 1 {
			<-hold
			return success(0, 1), nil
		}
		if n == 2 {
			return nil, status.Error(codes.Unavailable, "Server Is Too Busy")
		}
		return success(1, 2), nil
	}}
	l := opened(t, f, 10*time.Second)
	first := make(chan error)
	go func() { _, err := l.Append(t.Context(), "x-1", -1, one("a")); first <- err }()
	eventually(t, "the first is under way", func() bool { f.mu.Lock(); defer f.mu.Unlock(); return f.appends == 1 })
	if _, err := l.Append(t.Context(), "x-2", -1, one("b")); domain.CodeOf(err) != domain.CodeUnavailable {
		t.Error(err)
	}
	if _, err := l.Append(t.Context(), "x-2", -1, one("b")); err != nil {
		t.Error(err)
	}
	close(hold)
	if err := <-first; err != nil {
		t.Errorf("the call under way: %v", err)
	}
}

func TestAnErrorBeforeTheRequestIsReadIsAnUnknownOutcome(t *testing.T) {
	f := &fake{early: status.Error(codes.PermissionDenied, "no")}
	l := opened(t, f, 5*time.Second)
	many := make([]domain.Proposed, 200)
	for i := range many {
		many[i] = one(fmt.Sprint(i))[0]
		many[i].Data = []byte(`"` + strings.Repeat("x", 4000) + `"`)
	}
	_, err := l.Append(t.Context(), "x-1", -1, many)
	if code := domain.CodeOf(err); code != domain.CodeUnavailable && code != domain.CodeInternal {
		t.Error(err)
	}
}

func TestAClientThatPanicsIsReplaced(t *testing.T) {
	f := &fake{append: func(n int, _ []*api.AppendReq) (*api.AppendResp, error) {
		return success(0, 1), nil
	}}
	f.read = func(n int, _ *api.ReadReq, s api.Streams_ReadServer) error {
		switch n {
		case 2: // "unreachable code"
			return s.Send(&api.ReadResp{Content: &api.ReadResp_CaughtUp_{CaughtUp: &api.ReadResp_CaughtUp{}}})
		case 3: // no stream-name
			s.SetTrailer(metadata.Pairs("exception", "stream-deleted"))
			return status.Error(codes.FailedPrecondition, "is deleted")
		}
		return nil
	}
	l := opened(t, f, 5*time.Second)
	for range 2 {
		for _, err := range l.Read(t.Context(), "x-1", 0) {
			if domain.CodeOf(err) != domain.CodeUnavailable {
				t.Error(err)
			}
		}
	}
	for _, err := range l.Read(t.Context(), "x-1", 0) {
		t.Error(err)
	}
}

func TestErrorsAreCodedWhereverTheirCodeStands(t *testing.T) {
	wrong := &api.AppendResp{Result: &api.AppendResp_WrongExpectedVersion_{WrongExpectedVersion: &api.AppendResp_WrongExpectedVersion{
		ExpectedRevisionOption: &api.AppendResp_WrongExpectedVersion_ExpectedRevision{ExpectedRevision: 3},
		CurrentRevisionOption:  &api.AppendResp_WrongExpectedVersion_CurrentRevision{CurrentRevision: 41}}}}
	none := &api.AppendResp{Result: &api.AppendResp_WrongExpectedVersion_{WrongExpectedVersion: &api.AppendResp_WrongExpectedVersion{
		ExpectedRevisionOption: &api.AppendResp_WrongExpectedVersion_ExpectedRevision{ExpectedRevision: 3},
		CurrentRevisionOption:  &api.AppendResp_WrongExpectedVersion_CurrentNoStream{CurrentNoStream: &shared.Empty{}}}}}
	for name, row := range map[string]struct {
		resp   *api.AppendResp
		err    error
		code   domain.Code
		actual int64
	}{
		"wrong revision":     {wrong, nil, domain.CodeConflict, 41},
		"no stream":          {none, nil, domain.CodeConflict, domain.NoStream},
		"too large":          {nil, status.Error(codes.InvalidArgument, "Maximum Append Size of 1048576 Exceeded."), domain.CodeTooLarge, 0},
		"too large for gRPC": {nil, status.Error(codes.ResourceExhausted, "grpc: received message larger than max"), domain.CodeTooLarge, 0},
		"bad argument":       {nil, status.Error(codes.InvalidArgument, "bad"), domain.CodeInternal, 0},
		"no permission":      {nil, status.Error(codes.PermissionDenied, "Access Denied"), domain.CodeInternal, 0},
		"no credentials":     {nil, status.Error(codes.Unauthenticated, "who"), domain.CodeInternal, 0},
		"timed out":          {nil, status.Error(codes.Aborted, "Operation timed out"), domain.CodeUnavailable, 0},
		"away":               {nil, status.Error(codes.Unavailable, "Server Is Not Ready"), domain.CodeUnavailable, 0},
		"deadline":           {nil, status.Error(codes.DeadlineExceeded, "late"), domain.CodeUnavailable, 0},
		"handler":            {nil, status.Error(codes.Unknown, "Exception was thrown by handler."), domain.CodeUnavailable, 0},
	} {
		t.Run(name, func(t *testing.T) {
			l := opened(t, &fake{append: func(int, []*api.AppendReq) (*api.AppendResp, error) { return row.resp, row.err }}, 5*time.Second)
			_, err := l.Append(t.Context(), "x-1", 3, one("a"))
			var e *domain.Error
			if !errors.As(err, &e) || e.Code != row.code || e.Code == domain.CodeConflict && (e.Actual != row.actual || e.Expected != 3) {
				t.Errorf("%v (%s)", err, domain.CodeOf(err))
			}
		})
	}
	t.Run("a delete's", func(t *testing.T) {
		err := coded(fmt.Errorf("failed to perform delete, details: %w", status.Error(codes.FailedPrecondition,
			"Delete failed due to WrongExpectedVersion. Stream: s, Expected version: 3, Actual version: 7")))
		var e *domain.Error
		if !errors.As(err, &e) || e.Code != domain.CodeConflict || e.Actual != 7 {
			t.Error(err)
		}
	})
	t.Run("a dropped subscription's", func(t *testing.T) {
		if err := coded(status.Error(codes.FailedPrecondition, "Event stream 's' is deleted.")); domain.CodeOf(err) != domain.CodeNotFound {
			t.Error(err)
		}
	})
	t.Run("none", func(t *testing.T) {
		if err := coded(nil); err != nil {
			t.Error(err)
		}
	})
}

func TestADeletedStreamIsNotFound(t *testing.T) {
	f := &fake{append: func(int, []*api.AppendReq) (*api.AppendResp, error) { return success(0, 1), nil }}
	f.read = func(n int, _ *api.ReadReq, s api.Streams_ReadServer) error {
		if n == 1 {
			return nil
		}
		s.SetTrailer(metadata.Pairs("exception", "stream-deleted", "stream-name", "x-1"))
		return status.Error(codes.FailedPrecondition, "Event stream 'x-1' is deleted.")
	}
	l := opened(t, f, 5*time.Second)
	for _, err := range l.Read(t.Context(), "x-1", 0) {
		if domain.CodeOf(err) != domain.CodeNotFound {
			t.Error(err)
		}
	}
}

func TestAConflictThatNamesNoRevisionIsLookedUp(t *testing.T) {
	f := &fake{append: func(int, []*api.AppendReq) (*api.AppendResp, error) {
		return nil, status.Error(codes.FailedPrecondition, "WrongExpectedVersion")
	}}
	f.read = func(n int, r *api.ReadReq, s api.Streams_ReadServer) error {
		if r.Options.GetStream() != nil {
			return s.Send(event("x-1", 12, 500))
		}
		return nil
	}
	l := opened(t, f, 5*time.Second)
	_, err := l.Append(t.Context(), "x-1", 3, one("a"))
	var e *domain.Error
	if !errors.As(err, &e) || e.Code != domain.CodeConflict || e.Actual != 12 || e.Expected != 3 {
		t.Error(err)
	}
}

func TestAnEventWithoutAnIDIsRefused(t *testing.T) {
	f := &fake{}
	l := opened(t, f, 5*time.Second)
	for _, id := range []string{"", "x", "00000000-0000-0000-0000-000000000000"} {
		if _, err := l.Append(t.Context(), "x-1", -1, []domain.Proposed{{ID: id, Type: "x"}}); domain.CodeOf(err) != domain.CodeInternal {
			t.Errorf("%q: %v", id, err)
		}
	}
	if _, err := l.Append(t.Context(), "x-1", -1, nil); domain.CodeOf(err) != domain.CodeInternal {
		t.Error(err)
	}
	if f.appends != 0 {
		t.Error("sent")
	}
}

func TestAReadThatNobodyAnswersEndsInTime(t *testing.T) {
	f := &fake{}
	f.read = func(n int, _ *api.ReadReq, s api.Streams_ReadServer) error {
		if n > 1 {
			<-s.Context().Done()
		}
		return nil
	}
	l := opened(t, f, 200*time.Millisecond)
	for _, err := range l.Read(t.Context(), "x-1", 0) {
		if domain.CodeOf(err) != domain.CodeUnavailable {
			t.Error(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, err := range l.Read(ctx, "x-1", 0) {
		if domain.CodeOf(err) != domain.CodeUnavailable || !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
	eventually(t, "the node's read is let go", func() bool { open, _, _, _ := f.counts(); return open == 0 })
}

func TestCallsKeepWithinAConnectionsSlots(t *testing.T) {
	release := make(chan struct{})
	f := &fake{}
	f.read = func(n int, r *api.ReadReq, s api.Streams_ReadServer) error {
		if r.Options.GetStream() != nil {
			select {
			case <-release:
			case <-s.Context().Done():
			}
		}
		return nil
	}
	l := opened(t, f, 20*time.Second)
	var all sync.WaitGroup
	var failed atomic.Int64
	for range 250 {
		all.Go(func() {
			for range l.Read(t.Context(), "x-1", 0) {
				failed.Add(1)
			}
		})
	}
	eventually(t, "the slots are taken", func() bool { open, _, _, _ := f.counts(); return open == slots })
	if _, err := l.Head(t.Context()); err != nil {
		t.Errorf("the whole log cannot be read meanwhile: %v", err)
	}
	close(release)
	all.Wait()
	if _, most, _, _ := f.counts(); most > slots+1 || failed.Load() != 0 {
		t.Errorf("%d at once, %d failed", most, failed.Load())
	}
}

func TestReadsGoByPagesAndTellOurEvents(t *testing.T) {
	const n = 2*pageSize + 3
	f := &fake{}
	f.read = func(_ int, r *api.ReadReq, s api.Streams_ReadServer) error {
		if r.Options.GetAll() != nil {
			return nil
		}
		from, count := r.Options.GetStream().GetRevision(), r.Options.GetCount()
		for i := from; i < n && i < from+count; i++ {
			if err := s.Send(event("x-1", i, 100+i)); err != nil {
				return err
			}
		}
		return nil
	}
	l := opened(t, f, 5*time.Second)
	want := int64(0)
	for e, err := range l.Read(t.Context(), "x-1", 0) {
		if err != nil || e.Revision != want || e.Commit != uint64(100+want) || e.Type != "x.done" || e.Rev != 1 {
			t.Fatalf("%+v, %v", e, err)
		}
		if !e.Created.Equal(time.Unix(0, 1700000000123456000)) {
			t.Fatalf("created %s", e.Created.Format(time.RFC3339Nano))
		}
		want++
	}
	if want != n {
		t.Errorf("%d events", want)
	}
	for range l.Read(t.Context(), "x-1", 0) {
		break // a consumer may stop anywhere
	}
}

func TestCallsAfterCloseFail(t *testing.T) {
	f := &fake{}
	f.serve(t)
	l, err := Open(t.Context(), Config{URL: "esdb://" + f.address + "?tls=false"})
	if err != nil {
		t.Fatal(err)
	}
	f.read = func(_ int, _ *api.ReadReq, s api.Streams_ReadServer) error {
		<-s.Context().Done()
		return nil
	}
	ended, closed := make(chan error), make(chan error)
	go func() {
		for _, err := range l.Read(t.Context(), "x-1", 0) {
			ended <- err
		}
	}()
	eventually(t, "a read is under way", func() bool { open, _, _, _ := f.counts(); return open == 1 })
	go func() { closed <- l.Close(t.Context()) }()
	if err := <-ended; domain.CodeOf(err) != domain.CodeUnavailable {
		t.Error(err)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
	if _, err := l.Append(t.Context(), "x-1", -1, one("a")); domain.CodeOf(err) != domain.CodeUnavailable {
		t.Error(err)
	}
	for d, err := range l.Follow(t.Context(), 0) {
		t.Error(d, err)
	}
}

func TestAFollowerSendsUsToItsLeader(t *testing.T) {
	leader := &fake{}
	leader.serve(t)
	host, port, err := net.SplitHostPort(leader.address)
	if err != nil {
		t.Fatal(err)
	}
	f := &fake{append: func(int, []*api.AppendReq) (*api.AppendResp, error) {
		return nil, status.Error(codes.NotFound, "Leader info")
	}}
	f.trailer = metadata.Pairs("exception", "not-leader", "leader-endpoint-host", host, "leader-endpoint-port", port)
	l := opened(t, f, 5*time.Second)
	if _, err := l.Append(t.Context(), "x-1", -1, one("a")); domain.CodeOf(err) != domain.CodeUnavailable {
		t.Error(err)
	}
	if _, err := l.Append(t.Context(), "x-1", -1, one("a")); err != nil || leader.appends != 1 {
		t.Error(err, leader.appends)
	}
}
