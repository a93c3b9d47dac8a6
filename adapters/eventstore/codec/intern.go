package codec

import (
	"maps"
	"sync"
	"sync/atomic"
)

const (
	// internLimit is how many texts are kept for the life of the process: event types, content types and metadata keys are few.
	internLimit = 1024
	// internLength is the longest that is kept, in bytes.
	internLength = 128
)

// texts keeps one string for equal texts. Readers take no lock.
type texts struct {
	now atomic.Pointer[map[string]string]
	mu  sync.Mutex
}

var known texts

// text gives b as a string that shares no memory with it.
func (t *texts) text(b []byte) string {
	if kept := t.now.Load(); kept != nil {
		if s, ok := (*kept)[string(b)]; ok {
			return s
		}
	}
	s := string(b)
	if len(s) <= internLength {
		t.keep(s)
	}
	return s
}

func (t *texts) keep(s string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	old := t.now.Load()
	grown := map[string]string{}
	if old != nil {
		if len(*old) >= internLimit {
			return
		}
		grown = maps.Clone(*old)
	}
	grown[s] = s
	t.now.Store(&grown)
}
