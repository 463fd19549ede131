package spec

// AppName is the first segment of the paths to this app, here and at every peer.
const AppName = "tunnel"

// The kinds of ends, in paths of the API and in the keys under which they are saved:
// "inbound/tcp/web".
const (
	InboundKind  = "inbound"
	OutboundKind = "outbound"
)

// The first segments of the paths of flows that need no outbound, before their protocol.
const (
	ForwardPath = "forward" // to the target that the flow names
	ReversePath = "reverse" // the exit listens for the peer
)

// The parameters of a flow. The entrance sets them: they are claims, not facts.
const (
	ClientParam = "client" // the address of the client, "192.0.2.1:5000"
	ServerParam = "server" // the address that the client connected to
	PortParam   = "port"   // for a range: which of its ports, counted from 0
	PortsParam  = "ports"  // for a range: how many ports it has
	ProbeParam  = "probe"  // the flow only asks whether it would be allowed
	TargetParam = "target" // of a forward: the address to connect to
	ListenParam = "listen" // of a reverse forward: the address to listen on
)
