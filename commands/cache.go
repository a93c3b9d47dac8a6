package commands

import (
	"container/list"
	"sync"
)

// cache keeps the folds of the streams used last. A fold is taken out by the one lane that works on its stream, and put
// back: so only the cache itself needs a lock.
type cache struct {
	mu    sync.Mutex
	size  int
	order *list.List // of *kept, the last used in front
	by    map[string]*list.Element
}

type kept struct {
	stream string
	fold   *fold
}

func newCache(size int) *cache {
	return &cache{size: size, order: list.New(), by: map[string]*list.Element{}}
}

// take removes a stream's fold and gives it, or nil.
func (c *cache) take(stream string) *fold {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.by[stream]
	if e == nil {
		return nil
	}
	delete(c.by, stream)
	return c.order.Remove(e).(*kept).fold
}

// put keeps a stream's fold and lets go of the one used longest ago when there are too many.
func (c *cache) put(stream string, f *fold) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.by[stream] = c.order.PushFront(&kept{stream, f})
	for c.order.Len() > c.size {
		delete(c.by, c.order.Remove(c.order.Back()).(*kept).stream)
	}
}
