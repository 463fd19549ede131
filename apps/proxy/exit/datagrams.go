package exit

import (
	"context"

	"ztm/apps"
	"ztm/apps/proxy/relay"
)

// The exit's side of a flow of datagrams: one flow is one UDP socket, connected to one target, so that only this
// target's answers come back. The flow ends when nothing has passed for a while, because UDP has no end of its own.

// serveDatagrams answers "udp". An error means that the flow was not accepted.
func (e *Exit) serveDatagrams(ctx context.Context, f apps.Flow) error {
	target, g, err := e.dialFor(ctx, f, "udp")
	if err != nil {
		return err
	}
	defer target.Close()
	ctx, release := e.hold(ctx, g)
	defer release()
	conn, err := f.AcceptDatagrams()
	if err != nil {
		return err
	}
	relay.Datagrams(ctx, conn, target)
	return nil
}
