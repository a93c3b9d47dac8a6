package sources_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/tenure-dev/tenure/adapters/bus/sources"
	"github.com/tenure-dev/tenure/commands"
)

// line is a subscriber that hands out all it has, without a wait for answers.
type line struct {
	out  chan *message.Message
	fail int
}

func (l *line) Subscribe(ctx context.Context, _ string) (<-chan *message.Message, error) {
	if l.fail--; l.fail >= 0 {
		return nil, errors.New("broker away")
	}
	out := make(chan *message.Message)
	go func() {
		defer close(out)
		for {
			select {
			case m := <-l.out:
				if m == nil {
					return // the subscription is lost
				}
				out <- m
			case <-ctx.Done():
				for range len(l.out) {
					out <- <-l.out
				}
				return
			}
		}
	}()
	return out, nil
}
func (*line) Close() error { return nil }

func TestCommandsAreCarriedOutOneAfterTheOtherInTheirOrder(t *testing.T) {
	l, underway := &line{out: make(chan *message.Message, 50)}, make(chan struct{}, 1)
	b := &bus{answer: func(n int, _ commands.Call) (commands.Outcome, error) {
		select {
		case underway <- struct{}{}:
		default:
			t.Error("two commands at a time")
		}
		defer func() { <-underway }()
		return stands(n), nil
	}}
	r := start(t, b, func(s *sources.Source, _ *sources.Options) { s.Subscriber = l })
	var want []string
	var last *message.Message
	for i := range 50 {
		want = append(want, fmt.Sprint("k-", i))
		last = message.NewMessage("", []byte(rename(want[i])))
		l.out <- last
	}
	<-last.Acked()
	r.stop()
	var got []string
	for _, c := range b.all() {
		got = append(got, c.Key)
	}
	if !slices.Equal(got, want) {
		t.Error(got)
	}
}

func TestALostSubscriptionBeginsAgain(t *testing.T) {
	l := &line{out: make(chan *message.Message, 50), fail: 2}
	r := start(t, &bus{}, func(s *sources.Source, _ *sources.Options) { s.Subscriber = l })
	l.out <- message.NewMessage("", []byte(rename("k-1")))
	r.reply(r.replies)
	l.out <- nil
	l.out <- message.NewMessage("", []byte(rename("k-2")))
	if a := r.reply(r.replies); a.CorrelationID != "k-2" {
		t.Errorf("%+v", a)
	}
}

func TestASlowAndADeadSourceHarmNoOther(t *testing.T) {
	hang, hung := make(chan struct{}), make(chan struct{})
	b := &bus{answer: func(n int, c commands.Call) (commands.Outcome, error) {
		if c.Actor == "svc-slow" {
			close(hung)
			<-hang
		}
		return stands(n), nil
	}}
	slow := &line{out: make(chan *message.Message, 1)}
	r := start(t, b, func(s *sources.Source, o *sources.Options) {
		o.Sources = []sources.Source{
			{Config: sources.Config{Name: "slow", Actor: "svc-slow"}, Subscriber: slow, Publisher: s.Publisher},
			{Config: sources.Config{Name: "dead", Actor: "svc-dead"}, Subscriber: &line{fail: 1 << 30}, Publisher: s.Publisher}}
		o.Clock = &yielding{}
	})
	slow.out <- message.NewMessage("", []byte(rename("k-0")))
	<-hung
	r.send(rename("k-1"))
	if a := r.reply(r.replies); a.CorrelationID != "k-1" {
		t.Errorf("%+v", a)
	}
	close(hang)
	r.stop()
	if r.count("crm") != "accepted=1" || r.count("slow") != "accepted=1" || r.count("dead") != "" {
		t.Error(r.count("crm"), r.count("slow"), r.count("dead"))
	}
}

// yielding is a clock on which what is waited for never comes.
type yielding struct{ clock }

func (*yielding) After(time.Duration) <-chan time.Time { return nil }

func TestStopFinishesWhatHasBegunAndGivesTheRestBack(t *testing.T) {
	begun, finish := make(chan struct{}), make(chan struct{})
	b := &bus{answer: func(n int, c commands.Call) (commands.Outcome, error) {
		close(begun)
		<-finish
		return stands(n), nil
	}}
	l := &line{out: make(chan *message.Message, 2)}
	r := start(t, b, func(s *sources.Source, _ *sources.Options) { s.Subscriber = l })
	first, second := message.NewMessage("", []byte(rename("k-1"))), message.NewMessage("", []byte(rename("k-2")))
	l.out <- first
	<-begun
	l.out <- second
	r.end()
	finish <- struct{}{}
	r.stop()
	select {
	case <-first.Acked():
	default:
		t.Error("the first was carried out and not acknowledged")
	}
	<-second.Nacked()
	if a := r.reply(r.replies); a.CorrelationID != "k-1" {
		t.Errorf("%+v", a)
	}
	if len(b.all()) != 1 {
		t.Errorf("%d calls", len(b.all()))
	}
}

func TestStopDoesNotWaitForAPause(t *testing.T) {
	hold := make(chan struct{})
	b := &bus{answer: failing(unavailable(), unavailable(), unavailable())}
	l := &line{out: make(chan *message.Message, 1)}
	r := start(t, b, func(s *sources.Source, o *sources.Options) { s.Subscriber, o.Clock = l, &clock{hold: hold} })
	m := message.NewMessage("", []byte(rename("k-1")))
	l.out <- m
	<-hold
	r.stop()
	<-m.Nacked()
}
