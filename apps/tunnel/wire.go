package tunnel

// appName is the first segment of the paths to this app, here and at every peer.
const appName = "tunnel"

// The kinds of ends, in paths of the API and in the keys under which they are saved: "inbound/tcp/web".
const (
	inboundKind  = "inbound"
	outboundKind = "outbound"
)

// The first segments of the paths of flows that need no outbound, before their protocol.
const (
	forwardPath = "forward" // to the target that the flow names
	reversePath = "reverse" // the exit listens for the peer
)

// The parameters of a flow. All of them are the entrance's word.
const (
	clientParam = "client" // the address of the client, "192.0.2.1:5000"
	serverParam = "server" // the address that the client connected to
	portParam   = "port"   // for a range: which of its ports, counted from 0
	portsParam  = "ports"  // for a range: how many ports it has
	probeParam  = "probe"  // the flow only asks whether it would be allowed
	targetParam = "target" // of a forward: the address to connect to
	listenParam = "listen" // of a reverse forward: the address to listen on
)
