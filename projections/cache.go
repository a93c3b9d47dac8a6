package projections

import "unsafe"

// cache keeps the rows used last, up to a number of them. A row in it is as the store has it.
type cache struct {
	limit int
	nodes map[string]*node
	ring  node // ring.next is the one used last
}

type node struct {
	key        string
	row        unsafe.Pointer
	prev, next *node
}

func newCache(limit int) *cache {
	c := &cache{limit: limit, nodes: map[string]*node{}}
	c.ring.prev, c.ring.next = &c.ring, &c.ring
	return c
}

func (c *cache) get(key string) (unsafe.Pointer, bool) {
	n := c.nodes[key]
	if n == nil {
		return nil, false
	}
	n.unlink()
	c.front(n)
	return n.row, true
}

func (c *cache) has(key string) bool { return c.nodes[key] != nil }

func (c *cache) put(key string, row unsafe.Pointer) {
	n := c.nodes[key]
	if n == nil {
		n = &node{key: key}
		c.nodes[key] = n
	} else {
		n.unlink()
	}
	n.row = row
	c.front(n)
}

func (c *cache) drop(key string) {
	if n := c.nodes[key]; n != nil {
		n.unlink()
		delete(c.nodes, key)
	}
}

// trim forgets the rows that were not used for longest. It waits for the end of a batch: a batch needs all that it loaded.
func (c *cache) trim() {
	for len(c.nodes) > c.limit {
		c.drop(c.ring.prev.key)
	}
}

func (n *node) unlink() { n.prev.next, n.next.prev = n.next, n.prev }

func (c *cache) front(n *node) {
	n.prev, n.next = &c.ring, c.ring.next
	c.ring.next.prev = n
	c.ring.next = n
}
