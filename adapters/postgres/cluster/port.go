package cluster

import (
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
)

// Ports are drawn below the range from which the kernel takes those of outgoing connections, so that ours is seldom
// taken at a later start.
const lowestPort, highestPort = 20000, 32000

// choosePort keeps the port of the last start while it is free, and stores another where it is not. Somebody may still
// take it before the server does; then serve comes here again.
func (h *home) choosePort() error {
	if h.state.Port != 0 && free(h.state.Port) {
		return nil
	}
	for range 200 {
		if p := lowestPort + rand.IntN(highestPort-lowestPort); free(p) {
			h.state.Port = p
			return h.save()
		}
	}
	return errors.New("no free port on " + Host)
}

func free(port int) bool {
	l, err := net.Listen("tcp", net.JoinHostPort(Host, strconv.Itoa(port)))
	if err != nil {
		return false
	}
	return l.Close() == nil
}
