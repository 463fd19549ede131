package apps

import (
	"context"
	"io"
	"net"
	"net/url"
	"strconv"
	"strings"

	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
)

// Console is the command line as an app's commands see it: a client of the running agent that
// already knows, from the prefixes `ztm mesh NAME` and `ztm ep EP`, from the configuration and from
// the environment, which mesh and which endpoint are meant.
type Console interface {
	// Call sends a request to the API of an app at the chosen endpoint and decodes the JSON answer
	// into out. path begins with the app's name: "tunnel/inbound/tcp/web". in and out may be nil. A
	// failure is an *[Error].
	Call(ctx context.Context, method, path string, in, out any) error

	// CallAt is Call at a given endpoint.
	CallAt(ctx context.Context, ep identity.ID, method, path string, in, out any) error

	// Open opens a flow from the local agent to the path of an app at an endpoint, as [Mesh.Open]
	// does.
	Open(ctx context.Context, ep identity.ID, path string, query url.Values) (net.Conn, error)

	// OpenDatagrams is Open for datagrams, as [Mesh.OpenDatagrams] does.
	OpenDatagrams(ctx context.Context, ep identity.ID, path string, query url.Values) (net.Conn, error)

	// Endpoint returns the endpoint that the `ep` prefix chose, or the local endpoint.
	Endpoint(ctx context.Context) (Endpoint, error)

	// Chosen reports whether the `ep` prefix chose the endpoint.
	Chosen() bool

	// Resolve finds an endpoint by exact ID or else by unique exact name; "" and "." mean the local
	// endpoint.
	Resolve(ctx context.Context, name string) (Endpoint, error)

	// Trusted finds an endpoint to which what is typed or run will be sent: as Resolve does, but ""
	// means the one that Endpoint returns. A name belongs to the endpoint that had it when it was
	// used first. Where another endpoint has the name now, that is an error: the hub or another
	// member may have taken it.
	Trusted(ctx context.Context, name string) (Endpoint, error)

	// TrustedUser returns whose endpoints offer something under a name, such as a cluster, to which what
	// is typed will be sent; user is whose are meant, "" whoever has some. A name belongs to the user
	// whose it was at its first use, as for Trusted: where it was an endpoint of somebody else, or
	// several users offer it, that is an error.
	TrustedUser(ctx context.Context, name, offer, user string) (string, error)

	// CheckUsers checks whom a rule is for, see [CheckWho]. What is malformed is a [UsageError]; a
	// user who is nobody in the mesh is told to the person: it may be a slip, or a user who is still
	// to come.
	CheckUsers(ctx context.Context, names []string) error

	// Endpoints lists the endpoints of the chosen mesh.
	Endpoints(ctx context.Context, f Filter) ([]Endpoint, error)

	// Print writes v to standard output in the format that -o asked for. Where that is the table,
	// it prints t; where t is nil, it prints nothing.
	Print(v any, t *Table) error

	// Export writes v to standard output as a file that a command reads: in YAML, or in JSON where
	// -o asks for it or this build has no YAML.
	Export(v any) error

	// Stdin, Stdout and Stderr are the streams of the command.
	Stdin() io.Reader
	Stdout() io.Writer
	Stderr() io.Writer
}

// Table is a listing for people: a header row and rows of cells. Wide columns, at the right, show
// with -o wide alone.
type Table struct {
	Header []string
	Rows   [][]string
	Wide   int // how many of the last columns only -o wide shows
}

// Add appends a row.
func (t *Table) Add(cells ...string) { t.Rows = append(t.Rows, cells) }

// UsageError is wrong usage of a command: the command line exits with status 2.
type UsageError struct{ Err error }

func (e *UsageError) Error() string { return e.Err.Error() }
func (e *UsageError) Unwrap() error { return e.Err }

// HintError adds, for a person, what to do about an error.
type HintError struct {
	Err  error
	Hint string // a sentence
}

func (e *HintError) Error() string { return e.Err.Error() }
func (e *HintError) Unwrap() error { return e.Err }

// OwnerHint adds to the refusal of a flow what the owner of the endpoint can do: see the reason, and
// allow it with a command. Other errors stay as they are.
func OwnerHint(err error, command string) error {
	if answer.CodeOf(err) != answer.Denied {
		return err
	}
	return &HintError{Err: err, Hint: "the owner sees why with: ztm audit --refused; and can allow it with: " + command}
}

// ExitError ends the command line with a given status and without a message, as `ztm terminal open
// EP -- false` does.
type ExitError struct{ Status int }

func (e *ExitError) Error() string { return "exit status" }

// OnOff shows a switch.
func OnOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

// Printable replaces every rune of s that is not a letter, a mark, a number, punctuation, a symbol
// or a space: control characters, line ends, bidirectional overrides, invisible ones. What others
// wrote (names, labels, messages) goes through it on its way to a terminal, so that it cannot move
// the cursor, colour a line, end it, or reorder what stands beside it.
func Printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !strconv.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}
