// Listening here for a peer, for `ztm forward --reverse`. The way of one connection:
//
//	peer's flow: Serve -> listen -> events to the peer, until the peer ends its flow
//	client -> entrance -> Mesh.Open back to the peer, "forward/tcp" -> exit there
//
// It is an inbound that is not saved, whose only exit is the peer and whose flows name their target
// themselves.

package tunnel

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/url"

	"ztm/apps"
	"ztm/apps/tunnel/entrance"
	"ztm/apps/tunnel/spec"
	"ztm/tunnel/answer"
	"ztm/tunnel/splice"
)

// eventQueue is how many events wait for a peer that does not read. More are dropped.
const eventQueue = 256

// serveReverse listens for a peer until the peer ends the flow. An error means that the flow was
// not accepted.
func (a *App) serveReverse(ctx context.Context, f apps.Flow, protocol string) error {
	self := a.host.Mesh.Self()
	if f.Peer().User != self.User {
		return answer.Errorf(answer.Denied, "endpoint %s does not listen for user %s", self.Name, f.Peer().User)
	}
	listen, target, err := reverseAddresses(protocol, f.Query())
	if err != nil {
		return answer.Errorf(answer.BadRequest, "%v", err)
	}
	events := make(chan entrance.Event, eventQueue) // never closed
	in := entrance.NewForward(a.host, protocol, listen, target, f.Peer().ID, func(e entrance.Event) {
		select {
		case events <- e:
		default:
		}
	})
	defer in.End()
	if err := a.vacant(in.Settings()); err != nil {
		return err
	}
	if err := in.OpenForward(); err != nil {
		return err
	}
	flow, err := f.Accept()
	if err != nil {
		return answer.Errorf(answer.Broken, "the flow ended before it began")
	}
	report(ctx, flow, events)
	return nil
}

func reverseAddresses(protocol string, q url.Values) (listen, target spec.Address, err error) {
	if listen, err = spec.ParseAddress(q.Get(spec.ListenParam)); err != nil {
		return
	}
	if target, err = spec.ParseAddress(q.Get(spec.TargetParam)); err != nil {
		return
	}
	if err = spec.ValidateAddresses(protocol, []spec.Address{listen, target}); err == nil {
		err = target.ValidateTarget()
	}
	return
}

// report sends events to a peer until it ends the flow.
func report(ctx context.Context, flow net.Conn, events <-chan entrance.Event) {
	defer context.AfterFunc(ctx, func() { splice.Abort(flow) })()
	over := make(chan struct{}) // closed when the peer has ended its direction
	go func() {                 // ends when the flow is closed
		defer close(over)
		io.Copy(io.Discard, flow)
	}()
	write := json.NewEncoder(flow)
	for {
		select {
		case e := <-events:
			if err := write.Encode(e); err != nil {
				splice.Abort(flow)
				<-over
				return
			}
		case <-over:
			flow.Close()
			return
		}
	}
}
