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
	"fmt"
	"io"
	"net"
	"net/url"

	"ztm/apps"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
	"ztm/tunnel/splice"
)

const (
	reversePath = "reverse" // the first segment of the path of the peer's flow, before the protocol
	listenParam = "listen"  // the parameter with the address to listen on

	// eventQueue is how many events wait for a peer that does not read. More are dropped.
	eventQueue = 256
)

// Event is what happens on a forward, as `ztm forward` shows it. As JSON, one to a line, it goes to a peer for whom an
// endpoint listens.
type Event struct {
	Listening string `json:"listening,omitempty"` // the address on which the endpoint has begun to listen
	Target    string `json:"target,omitempty"`    // where connections to that address go
	Client    string `json:"client,omitempty"`
	Ended     bool   `json:"ended,omitempty"` // of the client's flow; otherwise it has begun
	Error     string `json:"error,omitempty"` // why the client was turned away
	Up        int64  `json:"up,omitempty"`    // bytes from the client, at the end
	Down      int64  `json:"down,omitempty"`  // bytes to the client, at the end
}

// newForward makes an inbound that takes the connections to one address to a target that is reached from an exit.
func newForward(h apps.Host, protocol string, listen, target Address, exit identity.ID, observe func(Event)) *inbound {
	spec := InboundSpec{Listens: []Address{listen}, Exits: []identity.ID{exit}}
	in := newInbound(h, Inbound{Key{protocol, forwardPath}, spec})
	in.path = forwardPath + "/" + protocol
	in.params = func(index int) url.Values { return url.Values{targetParam: {target.At(index).String()}} }
	in.observe = observe
	return in
}

// openForward opens the listeners of a forward. If it fails, nothing is left behind.
func (in *inbound) openForward() error {
	config := in.settings()
	list, _, err := in.prepare(config)
	if err != nil {
		in.end()
		return err
	}
	in.commit(config, list)
	for i, l := range list {
		in.observe(Event{Listening: l.status().Address, Target: in.params(i).Get(targetParam)})
	}
	return nil
}

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

// began tells the observer of a forward that a client's flow has begun. The caller calls the result at its end.
func (in *inbound) began(client net.Addr) (ended func(up, down int64)) {
	if in.observe == nil {
		return func(int64, int64) {}
	}
	name := fmt.Sprint(client) // which is nil for some clients of unix sockets
	in.observe(Event{Client: name})
	return func(up, down int64) { in.observe(Event{Client: name, Ended: true, Up: up, Down: down}) }
}
