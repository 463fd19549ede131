package apps

// The scope of a command says what the command is about. It decides what the prefixes
// `ztm mesh MESH` and `ztm ep [MESH/]EP` mean for the command, and stands in the Category of each
// command that can be run. A command without a scope takes no prefix. A prefix that a command does
// not take is wrong usage, and the command is not run.
const (
	// Device is this device or this program. No prefix is taken.
	Device = "device"

	// InMesh is a mesh as a whole. `mesh` chooses which.
	InMesh = "mesh"

	// AtEndpoint is one endpoint: that of the `ep` prefix, else the agent's own. Where the first
	// argument is EP it names the same thing: `ztm ep nas log ep` is `ztm log ep nas`. Naming both
	// is wrong usage, and so is the option --ep beside the prefix.
	AtEndpoint = "endpoint"

	// FromEndpoint is what is done from one endpoint, that of the `ep` prefix or else the agent's
	// own. An argument EP names another one: `ztm ep nas ping ep laptop` measures from nas to
	// laptop.
	FromEndpoint = "from"
)
