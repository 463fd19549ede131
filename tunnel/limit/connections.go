package limit

import (
	"net"
	"net/http"
	"sync/atomic"
)

// Connections returns what an [http.Server] has as its ConnState so that at most so many connections
// are open: what comes beyond that is closed at once. A connection that was hijacked no longer counts.
func Connections(most int64) func(net.Conn, http.ConnState) {
	var open atomic.Int64
	return func(c net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			if open.Add(1) > most {
				c.Close()
			}
		case http.StateClosed, http.StateHijacked:
			open.Add(-1)
		}
	}
}
