package kube

import (
	"context"
	"errors"
	"time"
)

// unoffered is how long a tunnel may be offered by nobody until clients are refused at once.
const unoffered = 5 * time.Second

// errUnknown says that nobody can tell now.
var errUnknown = errors.New("no hub answers")

// offers remembers which tunnels have an exit that is online. One goroutine uses it.
type offers struct {
	ask  func(ctx context.Context, tunnel, exit string) (bool, error)
	seen map[string]sight // by tunnel
}

// sight is what the mesh said of a tunnel last.
type sight struct {
	at      time.Time // of the question
	missing time.Time // since when nobody offers it; zero: somebody does
}

// has reports whether somebody offers a tunnel, or did a moment ago. While nobody can tell, what was
// said last holds, and what was never asked is there. exit is the name of an endpoint, or "".
func (o *offers) has(ctx context.Context, tunnel, exit string) bool {
	if o.ask == nil {
		return true
	}
	s, known := o.seen[tunnel]
	if !known || time.Since(s.at) >= look {
		there, err := o.ask(ctx, tunnel, exit)
		now := time.Now()
		switch {
		case err != nil:
		case there:
			s.missing = time.Time{}
		case !known:
			s.missing = now.Add(-unoffered)
		case s.missing.IsZero():
			s.missing = now
		}
		if s.at = now; err == nil || known {
			o.seen[tunnel] = s
		}
	}
	return s.missing.IsZero() || time.Since(s.missing) < unoffered
}
