package sagas

import (
	"hash/fnv"
	"time"
)

// undoing is how failed undos are retried where the step says nothing: a saga that turned back wants to get there.
var undoing = Backoff(10, time.Second, time.Minute)

func (s *step) retries(undo bool) Retry {
	if undo && s.retry.Attempts == 0 {
		return undoing
	}
	return s.retry
}

func (s *step) attempts(undo bool) int { return s.retries(undo).Attempts }

// pause is how long to wait after the n-th failure in a row: doubling from the least to the most, less up to a half by a
// hash of the failed ask, so that many sagas do not come back at once and a replay gives the same.
func (s *step) pause(undo bool, n int, commandID string) time.Duration {
	r := s.retries(undo)
	p := r.Min
	for range n - 1 {
		if p >= r.Max/2 {
			p = r.Max
			break
		}
		p *= 2
	}
	h := fnv.New32a()
	h.Write([]byte(commandID))
	return p - time.Duration(float64(p/2)*float64(h.Sum32()%1024)/1024)
}
