package api

import (
	"context"
	"net"
)

// Dial connects to the agent whose data directory is dir. The token goes into [TokenHeader] of
// every request; it is empty for an agent of an older version, which asks for none. An error wraps
// the one of the operating system: fs.ErrNotExist or a refused connection mean that no agent runs
// there.
func Dial(ctx context.Context, dir string) (c net.Conn, token string, err error) {
	return dial(ctx, dir)
}

// Listen opens the agent's door in its data directory, which must be there and be locked by the
// agent: what an agent that was killed left behind is removed. A request must carry the token, which
// is a new one each time, in [TokenHeader]. Closing the listener removes what Listen made.
func Listen(dir string) (l net.Listener, token string, err error) { return listen(dir) }

// Location says, for messages to a person, where the agent of dir listens.
func Location(dir string) string { return location(dir) }
