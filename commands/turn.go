package commands

import (
	"errors"

	"github.com/tenure-dev/tenure/domain"
)

// turn is one go at a lane's calls: they are decided in order, each on the state behind the earlier ones, and what they
// lead to is appended together. Whatever the append answers, the tail is read then, and calls are answered by what the log
// has: an append may have been taken without an answer, and one that succeeded may have found its event ids there already,
// put by another Bus that decided the same command on other facts.
type turn struct {
	*Bus
	*lane
	fold    *fold // nil before the stream is known
	pending []*op
	fresh   bool // the fold was read to the stream's end later than every pending call arrived
	tries   int  // in a row that ended without an answer
	lost    int  // appends that met another revision
}

func (t *turn) serve() {
	for t.drop(); len(t.pending) > 0; t.drop() {
		if t.fold == nil {
			t.fold = newFold(t.aggregate)
			if !t.pending[0].creates && !t.readTail(nil) {
				continue
			}
		}
		r := t.decide()
		switch {
		case len(r.events) > 0:
			t.append(r)
		case t.fresh:
			t.answerAll()
		default:
			t.readTail(nil)
		}
	}
}

// drop lets go of calls whose callers wait no longer, and of all when the Bus is stopping.
func (t *turn) drop() {
	kept := t.pending[:0]
	for _, o := range t.pending {
		select {
		case <-o.gone:
			o.fail(domain.Unavailable("the call ended before the command was answered", nil))
			continue
		case <-t.closing:
			if t.tries > 0 || t.lost > 0 {
				o.fail(stopping())
				continue
			}
		default:
		}
		kept = append(kept, o)
	}
	t.pending = kept
}

// readTail folds what the stream has behind the fold, trying again for a while. If it cannot, it fails every pending call.
func (t *turn) readTail(watch map[string]*op) bool {
	for {
		err := t.refresh(t.aggregate, t.stream, t.fold, watch)
		if err == nil {
			t.fresh = true
			return true
		}
		if domain.CodeOf(err) == domain.CodeUnavailable && t.again("read", err) {
			continue
		}
		t.Logger.Error("a stream cannot be read", "stream", t.stream, "error", err)
		t.failPending(err, func(*op) bool { return true })
		return false
	}
}

// again waits before another try of what ended without an answer; false when there have been enough.
func (t *turn) again(what string, err error) bool {
	t.tries++
	t.Logger.Warn("the log did not answer", "call", what, "stream", t.stream, "try", t.tries, "error", err)
	return t.tries < t.Tries && t.Pause(t.base, t.tries) == nil
}

// append writes what a round decided, reads the tail, and answers each call whose events stand there.
func (t *turn) append(r round) {
	done, err := t.Log.Append(t.base, t.stream, t.fold.revision, r.events)
	code := domain.CodeOf(err)
	for _, o := range r.watch {
		o.uncertain = o.uncertain || code == domain.CodeUnavailable
	}
	if !(err == nil && t.Sole && t.takeOwn(r, done)) && !t.readTail(r.watch) {
		return
	}
	kept := t.pending[:0]
	for _, o := range t.pending {
		if len(o.recorded) > 0 {
			t.settle(o, code == domain.CodeConflict && !o.uncertain)
		} else {
			kept = append(kept, o)
		}
	}
	t.pending = kept
	missing := func(o *op) bool { return r.watch[o.id] == o }
	switch code {
	case domain.CodeConflict:
		if t.lost++; t.lost >= maxConflicts {
			t.failPending(domain.Unavailable("too many others write to the same object", err), missing)
		}
	case "", domain.CodeUnavailable:
		if err == nil {
			err = errors.New("appended, but not yet to be read")
		}
		if !t.anyPending(missing) {
			t.tries = 0
		} else if !t.again("append", err) {
			t.failPending(domain.Unavailable("the log does not answer", err), missing)
		}
	default:
		t.failPending(coded(err), missing)
	}
}

// takeOwn folds an appended event without reading it back; false if there is any doubt of what the log has.
func (t *turn) takeOwn(r round, done Appended) bool {
	if done.Revision != t.fold.revision+1 || done.Commit == 0 { // more than one event: the log alone knows where each stands
		return false
	}
	for _, o := range r.watch {
		if o.uncertain {
			return false
		}
	}
	own := domain.Recorded{Data: r.events[0].Data}
	if domain.DecodeMeta(r.events[0].Meta, &own.Meta) != nil {
		return false
	}
	own.Stream, own.Revision, own.Commit, own.EventID, own.Type = t.stream, done.Revision, done.Commit, r.events[0].ID, r.events[0].Type
	return t.fold.take(t.aggregate, own, r.watch) == nil && t.fold.blocked == nil
}

// settle answers a call by its events in the log.
func (t *turn) settle(o *op, repeated bool) {
	last := o.recorded[len(o.recorded)-1]
	if o.recorded[0].InputHash != o.hash {
		o.fail(keyReused())
		return
	}
	o.out = t.stand(o, last.Revision, last.Commit, o.state)
	o.out.Events, o.out.Repeated = o.recorded, repeated
	o.out.Quiet = t.isNoted(last.Payload)
	close(o.done)
}

// answerAll gives out decisions that append nothing; the fold that they rest on was read later than the calls came.
func (t *turn) answerAll() {
	for _, o := range t.pending {
		if o.memo != nil {
			o.out, o.err = t.remembered(o)
		}
		close(o.done)
	}
	t.pending = nil
}

// remembered is the outcome of the call that was first with the command.
func (t *turn) remembered(o *op) (Outcome, error) {
	events, err := t.reread(t.base, t.aggregate, t.stream, *o.memo)
	if err != nil {
		return Outcome{}, err
	}
	out := t.stand(o, o.memo.last, o.memo.commit, t.fold.state)
	out.Events, out.Quiet, out.Repeated = events, o.memo.quiet, true
	return out, nil
}

// stand is an outcome that names a revision.
func (t *turn) stand(o *op, revision int64, commit uint64, state any) Outcome {
	return Outcome{CommandID: o.id, ID: o.target, Stream: t.stream, Revision: revision, DryRun: o.call.DryRun,
		Position: domain.Position{Epoch: t.Epoch, Commit: commit}, State: state}
}

func (t *turn) anyPending(which func(*op) bool) bool {
	for _, o := range t.pending {
		if which(o) {
			return true
		}
	}
	return false
}

func (t *turn) failPending(err error, which func(*op) bool) {
	kept := t.pending[:0]
	for _, o := range t.pending {
		if which(o) {
			o.fail(err)
		} else {
			kept = append(kept, o)
		}
	}
	t.pending = kept
}

func (o *op) fail(err error) {
	o.out, o.err = Outcome{}, err
	close(o.done)
}

func keyReused() error {
	return &domain.Error{Code: domain.CodeKeyReused, Field: "idempotencyKey", Message: "was used before with other input"}
}
