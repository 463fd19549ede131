// Listening here for a peer, for `ztm forward --reverse`. The way of one connection:
//
//	peer's flow: Serve -> listen -> events to the peer, until the peer ends its flow
//	client -> inbound.go -> Mesh.Open back to the peer, "forward/tcp" -> forward.go there
//
// It is an inbound that is not saved, whose only exit is the peer and whose flows name their target themselves.

package tunnel

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/url"

	"ztm/apps"
	"ztm/tunnel/answer"
	"ztm/tunnel/splice"
)

const (
	// eventQueue is how many events wait for a peer that does not read. More are dropped.
	eventQueue = 256
)

// serveReverse listens for a peer until the peer ends the flow. An error means that the flow was not accepted.
func (a *App) serveReverse(ctx context.Context, f apps.Flow, protocol string) error {
	self := a.host.Mesh.Self()
	if f.Peer().User != self.User {
		return answer.Errorf(answer.Denied, "endpoint %s does not listen for user %s", self.Name, f.Peer().User)
	}
	listen, target, err := reverseAddresses(protocol, f.Query())
	if err != nil {
		return answer.Errorf(answer.BadRequest, "%v", err)
	}
	events := make(chan Event, eventQueue) // never closed
	in := newForward(a.host, protocol, listen, target, f.Peer().ID, func(e Event) {
		select {
		case events <- e:
		default:
		}
	})
	defer in.end()
	if err := a.vacant(in.settings()); err != nil {
		return err
	}
	if err := in.openForward(); err != nil {
		return err
	}
	flow, err := f.Accept()
	if err != nil {
		return answer.Errorf(answer.Broken, "the flow ended before it began")
	}
	report(ctx, flow, events)
	return nil
}

func reverseAddresses(protocol string, q url.Values) (listen, target Address, err error) {
	if listen, err = ParseAddress(q.Get(listenParam)); err != nil {
		return
	}
	if target, err = ParseAddress(q.Get(targetParam)); err != nil {
		return
	}
	if err = validateAddresses(protocol, []Address{listen, target}); err == nil {
		err = target.validateTarget()
	}
	return
}

// report sends events to a peer until it ends the flow.
func report(ctx context.Context, flow net.Conn, events <-chan Event) {
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
