// Package tuning has the options of the HTTP/2 connections that there are: what a connection is for
// and how much memory the machine has decide its windows, its streams and how long it waits for a
// sign of life.
package tuning

import (
	"sync"
	"time"

	"ztm/tunnel/h2"
	"ztm/tunnel/h2/budget"
	"ztm/tunnel/memory"
)

// Control are the options of an agent's end of the session with its hub, at such a round trip; 0 is
// unknown. There is little data, and at rest under 1 MB a day: one PING of 17 bytes every 45 s and
// its answer.
func Control(rtt time.Duration) h2.Options { return control(memory.Here(), rtt) }

// Hub are those of the other end.
func Hub(rtt time.Duration) h2.Options {
	o := control(memory.Here(), rtt)
	o.Idle += HubLater
	return o
}

// HubLater is how much longer than the agent a hub waits before it asks for a sign of life. So the
// agent asks and the hub does not: with equal timeouts both do, most of the time.
const HubLater = 2 * time.Second

func control(l memory.Limit, rtt time.Duration) h2.Options {
	o := windowsOf(l, rtt)
	o.Window = min(o.Window, 256<<10)
	o.MaxStreams, o.Idle, o.PingWait, o.WriteWait = 64, 45*time.Second, 15*time.Second, 15*time.Second
	return o
}

// Sealed are those of the session between two agents at such a round trip. It carries the flows,
// and a dead peer is found within 15 s. A write that makes no progress is not an error there: it is
// a slow line, and PING tells whether the peer lives.
func Sealed(rtt time.Duration) h2.Options { return sealed(memory.Here(), rtt) }

func sealed(l memory.Limit, rtt time.Duration) h2.Options {
	o := windowsOf(l, rtt)
	o.MaxStreams, o.Idle, o.PingWait, o.Busy = 1024, 10*time.Second, 5*time.Second, true
	if l.Small() {
		o.MaxStreams /= 8
	}
	return o
}

// windowsOf chooses the windows by the memory there is. A large first window brings the first
// answer of a session on a long way in one round trip; what it could cost is bounded by the budget.
func windowsOf(l memory.Limit, rtt time.Duration) h2.Options {
	o := h2.Options{Window: 1 << 20, MaxWindow: int(budgetOf(l) / 4), Budget: shared(), RTT: rtt}
	switch {
	case l.Small():
		o.Window = 64 << 10
	case l.Bytes == 0 || l.Bytes >= 2<<30:
		o.Window = 4 << 20
	}
	return o
}

// shared is what all sessions of this process hold together, at most.
var shared = sync.OnceValue(func() *budget.Budget { return &budget.Budget{Limit: budgetOf(memory.Here())} })

// budgetOf is a thirty-second of the memory, within bounds. At 256 MiB a stream may have a window
// of 64 MiB: 5 Gbit/s at 100 ms.
func budgetOf(l memory.Limit) int64 {
	if l.Bytes == 0 {
		return 64 << 20
	}
	return min(max(l.Bytes/32, 2<<20), 256<<20)
}
