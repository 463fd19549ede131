package entrance

import (
	"fmt"
	"net"
	"net/url"

	"ztm/apps"
	"ztm/apps/tunnel/spec"
	"ztm/tunnel/identity"
)

// Event is what happens on a forward, as `ztm forward` shows it. As JSON, one to a line, it goes to
// a peer for whom an endpoint listens.
type Event struct {
	Listening string `json:"listening,omitempty"` // the address on which the endpoint has begun to listen
	Target    string `json:"target,omitempty"`    // where connections to that address go
	Client    string `json:"client,omitempty"`
	Ended     bool   `json:"ended,omitempty"` // of the client's flow; otherwise it has begun
	Error     string `json:"error,omitempty"` // why the client was turned away
	Up        int64  `json:"up,omitempty"`    // bytes from the client, at the end
	Down      int64  `json:"down,omitempty"`  // bytes to the client, at the end
}

// NewForward makes an inbound that takes the connections to one address to a target that is reached
// from an exit.
func NewForward(h apps.Host, protocol string, listen, target spec.Address, exit identity.ID, observe func(Event)) *Inbound {
	set := spec.InboundSpec{Listens: []spec.Address{listen}, Exits: []identity.ID{exit}}
	in := New(h, spec.Inbound{Key: spec.Key{Protocol: protocol, Name: spec.ForwardPath}, InboundSpec: set})
	in.path = spec.ForwardPath + "/" + protocol
	in.params = func(index int) url.Values { return url.Values{spec.TargetParam: {target.At(index).String()}} }
	in.observe = observe
	return in
}

// OpenForward opens the listeners of a forward. If it fails, nothing is left behind.
func (in *Inbound) OpenForward() error {
	config := in.Settings()
	list, _, err := in.Prepare(config)
	if err != nil {
		in.End()
		return err
	}
	in.Commit(config, list)
	for i, l := range list {
		in.observe(Event{Listening: l.status().Address, Target: in.params(i).Get(spec.TargetParam)})
	}
	return nil
}

// began tells the observer of a forward that a client's flow has begun. The caller calls the result
// at its end.
func (in *Inbound) began(client net.Addr) (ended func(up, down int64)) {
	if in.observe == nil {
		return func(int64, int64) {}
	}
	name := fmt.Sprint(client) // which is nil for some clients of unix sockets
	in.observe(Event{Client: name})
	return func(up, down int64) { in.observe(Event{Client: name, Ended: true, Up: up, Down: down}) }
}
