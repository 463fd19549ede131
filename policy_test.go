package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

type arrow struct {
	of  string
	may []string
	why string
}

// arrows says which of our packages a package may import. The first pattern that matches counts;
// "/..." at the end of a pattern stands for the package and all below it, "/*" for those one below.
var arrows = []arrow{
	{".", []string{"agent/...", "apps/...", "hub", "store", "store/backup", "store/backup/cli", "tunnel/..."}, "main puts everything together"},
	{"hub/directory", []string{"store", "tunnel", "tunnel/answer", "tunnel/identity", "tunnel/offer"}, "who there is in a mesh depends on no hub"},
	{"hub/directory/cluster", []string{"hub/directory", "store", "store/etcd", "tunnel", "tunnel/answer", "tunnel/identity", "tunnel/metric", "tunnel/pause"}, "a directory that hubs share knows no hub"},
	{"hub/directory/directorytest", []string{"hub/directory", "tunnel", "tunnel/answer", "tunnel/identity"}, "the suite knows the contract, and no directory"},
	{"hub/admission", []string{"tunnel/identity", "tunnel/limit"}, "who may come in depends on nothing that is inside"},
	{"hub/shared", []string{"hub/directory", "hub/directory/cluster", "store", "store/etcd", "tunnel", "tunnel/answer", "tunnel/identity", "tunnel/metric"}, "what hubs decide together depends on nothing else that a hub does"},
	{"hub/takeover", []string{"hub/directory", "tunnel", "tunnel/answer", "tunnel/identity"}, "whose a name is shows in the directory alone"},
	{"hub/forks", []string{"tunnel/identity"}, "a list that differs is kept for others to judge"},
	{"hub/quiet", []string{"tunnel/buffer", "tunnel/gather", "tunnel/splice"}, "how a session waits depends on nothing that it says"},
	{"hub/certificate", []string{"hub/state", "tunnel/identity"}, "what a hub shows depends on what it knows of itself"},
	{"hub/away", []string{"hub/directory", "tunnel", "tunnel/identity"}, "who went is seen in the directory alone"},
	{"agent/tokens", []string{"agent/authority", "agent/limits", "store", "store/redeemed", "tunnel/answer", "tunnel/identity"}, "what a person sees and answers of tokens is beside what decides them"},
	{"hub/state", []string{"store", "store/backup", "store/private", "store/redeemed", "tunnel", "tunnel/answer", "tunnel/identity"}, "what a hub keeps depends on nothing that it does"},
	{"hub/limits", []string{"hub/directory", "tunnel", "tunnel/limit", "tunnel/memory"}, "what others can take of a hub is one table"},
	{"hub/link", []string{"tunnel", "tunnel/answer", "tunnel/identity", "tunnel/limit", "tunnel/pause"}, "what hubs say to each other depends on nothing that a hub does with it"},
	{"hub/relay", []string{"hub/limits", "hub/link", "tunnel", "tunnel/answer", "tunnel/identity", "tunnel/inflight", "tunnel/limit", "tunnel/splice", "tunnel/suspicion"}, "a path is made of two legs, whatever they are"},
	{"hub", []string{"hub/admission", "hub/away", "hub/certificate", "hub/directory", "hub/forks", "hub/limits", "hub/link", "hub/quiet", "hub/takeover", "hub/relay", "hub/shared", "hub/state", "store/backup", "store/private", "tunnel", "tunnel/answer", "tunnel/h2", "tunnel/handshake", "tunnel/identity", "tunnel/inflight", "tunnel/limit", "tunnel/loopback", "tunnel/metric", "tunnel/pause", "tunnel/shellwords", "tunnel/tuning"}, "the hub carries what it cannot read, and shares a wire with the agent, not code"},
	{"agent", []string{"agent/api", "agent/audit", "agent/audit/sink", "agent/authority", "agent/beside", "agent/control", "agent/direct", "agent/known", "agent/limits", "agent/local", "agent/notice", "agent/peers", "agent/policy", "agent/policy/keep", "agent/recent", "agent/state", "agent/web", "apps", "apps/settings", "store", "tunnel/..."}, "the agent knows no app by name, and shares a wire with the hub, not code"},
	{"agent/state", []string{"agent/api", "agent/authority", "agent/limits", "agent/tokens", "apps", "store", "store/backup", "store/private", "tunnel/answer", "tunnel/identity"}, "what is kept is apart from what runs"},
	{"agent/api", []string{"apps", "apps/listen", "store/private", "tunnel/answer", "tunnel/identity", "tunnel/identity/policy"}, "the door of the local API is a private place"},
	{"agent/policy/keep", []string{"agent/api", "agent/feature", "agent/policy", "apps", "tunnel/answer", "tunnel/flow", "tunnel/identity", "tunnel/identity/policy", "tunnel/inflight", "tunnel/limit", "tunnel/memory"}, "what is in force is kept apart from what it gives"},
	{"agent/policy/file", []string{"agent/policy", "apps", "tunnel/identity", "tunnel/identity/policy"}, "what a file says is worked out without a mesh"},
	{"agent/policy/file/cli", []string{"agent/api", "agent/audit", "agent/console", "agent/policy/file", "apps", "tunnel/answer", "tunnel/identity/policy"}, "a command line is a client of the agent; main alone has it"},
	{"agent/policy", []string{"apps", "apps/reach", "tunnel/identity", "tunnel/identity/policy"}, "what a policy gives is decided without a clock, a disk or a network"},
	{"agent/limits", []string{"tunnel/identity", "tunnel/memory"}, "what others can take of a device is one table"},
	{"agent/authority", []string{"agent/api", "agent/control", "agent/limits", "agent/peers", "apps", "tunnel", "tunnel/answer", "tunnel/flow", "tunnel/identity", "tunnel/inflight", "tunnel/limit", "tunnel/seal"}, "what makes members asks hubs and peers, and keeps its book elsewhere"},
	{"agent/control", []string{"agent/api", "agent/limits", "tunnel", "tunnel/answer", "tunnel/identity", "tunnel/inflight", "tunnel/limit", "tunnel/memory", "tunnel/race", "tunnel/suspicion"}, "the session with a hub carries what it does not understand"},
	{"agent/audit", []string{"tunnel/answer", "tunnel/identity"}, "what is recorded depends on nothing that is"},
	{"agent/policy/cli", []string{"agent/api", "agent/console", "agent/feature", "apps", "tunnel/answer", "tunnel/identity/policy"}, "a command line is a client of the agent; main alone has it"},
	{"agent/audit/cli", []string{"agent/audit", "agent/audit/sink", "agent/console", "agent/feature", "apps", "tunnel/identity"}, "a command line is a client of the agent; main alone has it"},
	{"agent/direct", []string{"agent/feature", "tunnel/..."}, "who meets, and when, does not depend on what they do then"},
	{"agent/peers", []string{"agent/audit", "agent/direct", "agent/limits", "apps", "tunnel/..."}, "what peers have with each other does not depend on what keeps them members"},
	{"agent/notice", []string{"agent/audit", "agent/feature", "agent/webhook", "apps", "tunnel/answer", "tunnel/identity"}, "what is told is found by looking, and nothing waits for it"},
	{"agent/notice/cli", []string{"agent/console", "agent/notice", "apps"}, "a command line is a client of the agent; main alone has it"},
	{"agent/webhook", nil, "a web server is told things without knowing what"},
	{"agent/audit/sink", []string{"agent/audit", "agent/feature", "agent/webhook", "apps/rooted", "store/private", "tunnel/answer"}, "where lines go to is beside what they are"},
	{"agent/known", []string{"agent/api", "agent/limits", "apps", "tunnel/identity", "tunnel/offer"}, "what people see while the hub is away decides nothing"},
	{"agent/recent", []string{"agent/api"}, "lines are kept without knowing who logs"},
	{"agent/daemon", nil, "a process that stays owes the system the same, whatever it does"},
	{"agent/web", []string{"agent/api", "agent/policy/file", "agent/web/websocket", "apps/listen", "tunnel/answer", "tunnel/identity", "tunnel/identity/policy", "tunnel/limit", "tunnel/loopback", "tunnel/splice"}, "a browser asks the agent's own API, and knows no mesh"},
	{"agent/web/websocket", nil, "messages know nothing of what they carry"},
	{"agent/local", []string{"agent/api", "tunnel/answer", "tunnel/loopback", "tunnel/metric"}, "who is let in at this machine knows no mesh"},
	{"agent/beside", []string{"tunnel/answer", "tunnel/pause"}, "what runs beside an agent is a client of its API"},
	{"agent/kube", []string{"agent/api", "agent/beside", "agent/kube/asked", "agent/kube/cluster", "agent/kube/expose", "agent/kube/imports", "apps", "tunnel/pause"}, "a cluster is watched by a client of the agent's API"},
	{"agent/kube/access", []string{"agent/kube/cluster", "apps", "apps/listen", "apps/settings", "tunnel/answer", "tunnel/identity", "tunnel/identity/policy"}, "an app that leads to an API server, and watches none"},
	{"agent/kube/cli", []string{"agent/kube/access", "agent/kube/asked", "apps", "tunnel/identity", "tunnel/shellwords"}, "a command line asks an API: nobody but main has it"},
	{"agent/kube/asked", []string{"agent/kube/cluster"}, "annotations are read in one way"},
	{"agent/kube/expose", []string{"agent/kube/asked", "agent/kube/cluster"}, "what is exposed is worked out from objects alone"},
	{"agent/kube/imports", []string{"agent/kube/asked", "agent/kube/cluster"}, "what is imported is worked out from objects alone"},
	{"agent/kube/cluster", []string{"tunnel/pause"}, "an API server is spoken to without knowing what for"},
	{"agent/kube/kubetest", nil, "it is for tests"},
	{"agent/feature", []string{"apps/builtin"}, "what was built in depends on nothing that was"},
	{"apps/builtin", nil, "which apps were built in depends on none of them"},
	{"agent/...", []string{"agent/api", "agent/console/...", "apps", "tunnel/answer", "tunnel/identity", "tunnel/shellwords"}, "the command line is a client: it holds no state and no key"},
	{"apps", []string{"tunnel/answer", "tunnel/identity", "tunnel/identity/policy", "tunnel/metric", "tunnel/splice"}, "what an app is depends on no app"},
	{"apps/udp", nil, "a socket knows no app"},
	{"apps/listen", []string{"tunnel/answer", "tunnel/pause", "tunnel/splice"}, "a listener knows no app"},
	{"apps/settings", []string{"apps", "tunnel/answer"}, "settings are kept in one way, whatever they are"},
	{"apps/balance", nil, "a choice knows no app, nor what is chosen"},
	{"apps/rooted/rootedtest", []string{"apps/rooted"}, "it is for tests"},
	{"apps/rooted", []string{"apps"}, "a file is opened without knowing for whom"},
	{"apps/reach", []string{"apps/listen", "tunnel/answer", "tunnel/limit", "tunnel/race"}, "what is reached, and how, is the same for all apps"},
	{"apps/proxy", []string{"apps", "apps/listen", "apps/proxy/clients", "apps/proxy/dns", "apps/proxy/exit", "apps/proxy/policy", "apps/proxy/route", "apps/proxy/socks", "apps/proxy/web", "apps/reach", "apps/settings", "tunnel/answer", "tunnel/identity", "tunnel/limit"}, "the proxy puts its rooms together"},
	{"apps/proxy/cli", []string{"apps", "apps/proxy", "apps/proxy/policy"}, "a command line asks an API: nobody but main has it"},
	{"apps/proxy/clients", []string{"apps/listen", "tunnel/limit", "tunnel/splice"}, "who a client is does not depend on what it speaks"},
	{"apps/proxy/socks", []string{"apps", "apps/proxy/clients", "apps/proxy/relay", "apps/reach", "tunnel/answer", "tunnel/limit"}, "a protocol opens connections and does not choose their way"},
	{"apps/proxy/web", []string{"apps/proxy/clients", "apps/proxy/httpguard", "apps/proxy/relay", "apps/proxy/route", "apps/reach", "tunnel/answer", "tunnel/splice"}, "HTTP is forwarded, and says what it forwards"},
	{"apps/proxy/dns/dnstest", nil, "it is for tests"},
	{"apps/proxy/dns", []string{"apps/listen", "apps/reach", "apps/udp", "tunnel/answer", "tunnel/limit"}, "DNS is spoken without knowing an exit"},
	{"apps/proxy/exit", []string{"apps", "apps/proxy/dns", "apps/proxy/policy", "apps/proxy/relay", "apps/reach", "tunnel/answer", "tunnel/identity", "tunnel/limit", "tunnel/splice"}, "an exit knows no other exit, and no client"},
	{"apps/proxy/relay", []string{"apps/reach", "apps/udp"}, "any two connections of datagrams can be joined"},
	{"apps/proxy/route", []string{"apps", "apps/balance", "apps/proxy/dns", "apps/proxy/exit", "apps/proxy/policy", "apps/reach", "tunnel/answer", "tunnel/identity", "tunnel/limit"}, "a way is chosen without knowing what a client speaks"},
	{"apps/proxy/httpguard", []string{"apps/listen", "tunnel/splice"}, "what a request is does not depend on where it goes"},
	{"apps/proxy/policy", []string{"apps/reach", "tunnel/answer", "tunnel/identity", "tunnel/limit"}, "who may reach what is decided without touching a network"},
	{"apps/cloud/mirror", []string{"apps/rooted"}, "what is done about a file is decided by looking, and without touching it"},
	{"apps/cloud/trash", []string{"apps/rooted"}, "a way back depends on nothing that takes files away"},
	{"apps/file", []string{"apps", "apps/file/transfer", "apps/rooted", "apps/settings", "tunnel/answer", "tunnel/identity", "tunnel/limit", "tunnel/splice"}, "who may have a file is decided apart from how it travels"},
	{"apps/file/cli", []string{"apps", "apps/file", "apps/file/transfer", "apps/progress", "tunnel/limit"}, "a command line is a client of an app; main alone has it"},
	{"apps/file/transfer", []string{"apps", "apps/rooted", "tunnel/answer", "tunnel/splice"}, "a copy knows neither who asked for it nor who may"},
	{"apps/progress", []string{"apps"}, "how far something is does not depend on what it is"},
	{"apps/cloud/blocks", nil, "a block knows no file, and nobody who has it"},
	{"apps/cloud/entry", []string{"apps", "apps/cloud/blocks", "apps/rooted", "tunnel/identity", "tunnel/identity/policy"}, "what was said of a file does not depend on who passes it on"},
	{"apps/cloud/index", []string{"apps", "apps/cloud/blocks", "apps/cloud/entry", "apps/rooted", "tunnel/answer", "tunnel/identity"}, "what is known of files touches no file"},
	{"apps/cloud/rule", []string{"apps", "apps/cloud/entry", "apps/settings"}, "whom a file is shared with does not depend on what is in it"},
	{"apps/cloud/config", []string{"tunnel/answer"}, "what an owner may set does not depend on who keeps to it"},
	{"apps/cloud/wire", []string{"apps/cloud/blocks"}, "frames know no file"},
	{"apps/cloud/fetch", []string{"apps/cloud/blocks", "apps/cloud/wire", "tunnel/identity", "tunnel/splice"}, "a content is fetched without knowing its name"},
	{"apps/cloud/give", []string{"apps/cloud/blocks", "apps/cloud/index", "apps/cloud/wire", "tunnel/identity"}, "what is given knows nothing of the directory, and of a peer its name"},
	{"apps/cloud/tree", []string{"apps/cloud/blocks", "apps/cloud/trash", "apps/rooted", "tunnel/answer"}, "a directory knows no peer"},
	{"apps/cloud/note", []string{"apps/cloud/index", "apps/cloud/tree"}, "what the index says follows the disk"},
	{"apps/cloud/load", []string{"apps/cloud/fetch", "apps/cloud/index", "tunnel/answer"}, "how far a download is does not depend on how a file is fetched"},
	{"apps/cloud/news", []string{"apps", "apps/cloud/entry", "apps/cloud/index", "tunnel/identity"}, "that there is something new is told without telling what"},
	{"apps/cloud/learn", []string{"apps", "apps/cloud/entry", "apps/cloud/index", "tunnel/identity"}, "who asks others for news touches no file"},
	{"apps/cloud/state", []string{"apps", "tunnel/shellwords"}, "why a file is not done is remembered without looking at it"},
	{"apps/cloud", []string{"apps", "apps/builtin", "apps/cloud/blocks", "apps/cloud/config", "apps/cloud/entry", "apps/cloud/fetch", "apps/cloud/give", "apps/cloud/index", "apps/cloud/learn", "apps/cloud/load", "apps/cloud/mirror", "apps/cloud/news", "apps/cloud/note", "apps/cloud/rule", "apps/cloud/state", "apps/cloud/trash", "apps/cloud/tree", "apps/rooted", "apps/settings", "tunnel/answer", "tunnel/identity", "tunnel/identity/policy", "tunnel/limit", "tunnel/splice"}, "the cloud puts its rooms together"},
	{"apps/cloud/cli", []string{"apps", "apps/builtin", "apps/cloud", "apps/cloud/config", "apps/cloud/entry", "apps/cloud/load", "apps/cloud/mirror", "apps/cloud/state", "apps/progress", "tunnel/answer", "tunnel/splice"}, "a command line asks an API: nobody but main has it"},
	{"apps/tunnel/proxyproto", nil, "a header knows nothing of tunnels"},
	{"apps/tunnel/spec", []string{"apps", "apps/balance", "apps/listen", "apps/reach", "apps/tunnel/proxyproto", "tunnel/answer", "tunnel/identity"}, "what a tunnel is depends on nothing that it does"},
	{"apps/tunnel/frpc", []string{"apps/tunnel/spec", "tunnel/identity", "tunnel/shellwords"}, "what another program's file means is found out before anything is done"},
	{"apps/tunnel/traffic", []string{"apps/tunnel/spec", "apps/udp", "tunnel/answer", "tunnel/identity", "tunnel/splice"}, "what passes is the same at both ends"},
	{"apps/tunnel/entrance", []string{"apps", "apps/balance", "apps/listen", "apps/reach", "apps/tunnel/proxyproto", "apps/tunnel/spec", "apps/tunnel/traffic", "apps/udp", "tunnel/answer", "tunnel/identity", "tunnel/limit", "tunnel/offer", "tunnel/pause", "tunnel/splice"}, "an entrance reaches an exit through the mesh alone"},
	{"apps/tunnel/exit", []string{"apps", "apps/balance", "apps/reach", "apps/tunnel/proxyproto", "apps/tunnel/spec", "apps/tunnel/traffic", "apps/udp", "tunnel/answer", "tunnel/limit", "tunnel/pause", "tunnel/splice"}, "an exit knows no entrance, only peers"},
	{"apps/tunnel", []string{"apps", "apps/balance", "apps/settings", "apps/tunnel/entrance", "apps/tunnel/exit", "apps/tunnel/spec", "apps/tunnel/traffic", "tunnel/answer", "tunnel/metric", "tunnel/offer", "tunnel/splice"}, "the app puts its ends together"},
	{"apps/tunnel/tunneltest", []string{"apps", "apps/appstest", "apps/reach", "apps/tunnel", "apps/tunnel/..."}, "it is for tests"},
	{"apps/tunnel/cli", []string{"apps", "apps/balance", "apps/reach", "apps/tunnel", "apps/tunnel/...", "tunnel/answer", "tunnel/identity", "tunnel/shellwords", "tunnel/splice"}, "a command line is a client of an app; main alone has it"},
	{"apps/process/session", nil, "what runs is found without knowing why"},
	{"apps/process", []string{"apps", "apps/process/session", "tunnel/answer", "tunnel/identity", "tunnel/limit", "tunnel/splice"}, "a program runs without knowing for which app"},
	{"apps/external", []string{"apps", "apps/external/...", "tunnel/answer", "tunnel/identity", "tunnel/loopback"}, "the app puts its rooms together"},
	{"apps/appstest", []string{"apps", "tunnel/answer", "tunnel/freeport", "tunnel/identity", "tunnel/offer"}, "it is for tests, and sees what an app sees"},
	{"apps/*", []string{"apps", "apps/process", "apps/settings", "tunnel/answer", "tunnel/identity"}, "an app sees a Mesh, not what carries it, and no other app"},
	{"apps/external/confine", nil, "what holds a program knows nothing of what it is for"},
	{"apps/external/contract", []string{"tunnel/answer", "tunnel/identity", "tunnel/splice"}, "a request is cleaned without knowing for which app"},
	{"apps/external/door", []string{"apps", "apps/external/contract", "apps/external/manifest", "apps/external/shelf", "tunnel/answer", "tunnel/capsule", "tunnel/identity", "tunnel/limit", "tunnel/splice"}, "what passes between peers and a program does not depend on how it runs"},
	{"apps/external/cli", []string{"apps", "apps/external", "apps/external/bundle", "apps/external/contract", "apps/external/install", "apps/external/manifest", "apps/external/pages", "apps/external/run", "apps/external/shelf", "apps/progress", "tunnel/answer", "tunnel/identity", "tunnel/loopback", "tunnel/shellwords", "tunnel/splice"}, "a command line is a client of an app; main alone has it"},
	{"apps/external/pages", []string{"apps", "apps/external/contract", "tunnel/splice"}, "a browser sees an app, whoever opened it and wherever it runs"},
	{"apps/external/sdk", nil, "a program of others has nothing of ztm but what it copies"},
	{"apps/external/shelf", []string{"apps/external/contract", "tunnel/answer", "tunnel/splice"}, "the files of a program are in the cloud, which knows no program"},
	{"apps/external/run", []string{"apps", "apps/external/confine", "apps/external/manifest", "apps/listen", "apps/process/session", "tunnel/answer", "tunnel/limit", "tunnel/pause"}, "a process is kept without knowing who asks it"},
	{"apps/external/manifest", []string{"tunnel/identity"}, "what an app says of itself is checked without running it"},
	{"apps/external/install", []string{"apps", "apps/external/bundle", "apps/external/manifest", "apps/rooted", "tunnel/answer", "tunnel/identity"}, "what is installed is kept without running it, or knowing where it came from"},
	{"apps/external/bundle", []string{"apps", "apps/external/manifest", "apps/rooted"}, "a version of an app is written and checked without knowing who delivers it"},
	{"tunnel/direct", []string{"tunnel/pause"}, "two devices meet without knowing a mesh"},
	{"tunnel/direct/directtest", []string{"tunnel/direct"}, "it is for tests"},
	{"tunnel/datagram", []string{"tunnel/buffer", "tunnel/direct", "tunnel/pause"}, "datagrams are sealed and carried without knowing a flow or a mesh"},
	{"tunnel", []string{"tunnel/answer", "tunnel/direct", "tunnel/gather", "tunnel/h2", "tunnel/handshake", "tunnel/identity", "tunnel/race", "tunnel/tuning"}, "the transport knows neither what it carries nor for whom"},
	{"tunnel/answer", nil, "everybody answers in one way, whoever they are"},
	{"tunnel/handshake", nil, "a handshake is watched from below, before anybody knows who it is with"},
	{"tunnel/identity", []string{"tunnel/identity/document"}, "who a peer is depends on nobody else"},
	{common, nil, "a time is written in one way, wherever it stands"},
	{"tunnel/identity/document", nil, "a document has its form whatever it says, and whoever signs it"},
	{"tunnel/identity/identitytest", []string{"tunnel/identity"}, "it is for tests"},
	{"tunnel/offer", nil, "an offer is read in one way, by hubs and by who looks for it"},
	{"tunnel/identity/policy", []string{"tunnel/identity", "tunnel/identity/document"}, "what is granted is written down without knowing an app"},
	{"tunnel/splice", nil, "any two connections can be joined"},
	{"tunnel/shellwords", nil, "a word is quoted whatever it is for"},
	{"tunnel/limit", []string{"tunnel/splice"}, "a limit knows nothing of what it limits"},
	{"tunnel/inflight", []string{"tunnel/limit"}, "what runs is tracked in one way, whatever it is"},
	{"tunnel/loopback", []string{"tunnel/limit"}, "who may ask a port of this machine depends on nobody else"},
	{"tunnel/metric", nil, "counters are written in one way, whatever they count"},
	{"tunnel/memory", nil, "how large the machine is depends on nobody else"},
	{"tunnel/capsule", nil, "a codec knows no flow"},
	{"tunnel/buffer", []string{"tunnel/memory"}, "a buffer knows no reader"},
	{"tunnel/gather", []string{"tunnel/buffer"}, "records are gathered without knowing what they are"},
	{"tunnel/h2", []string{"tunnel/buffer", "tunnel/h2/budget", "tunnel/h2/flood", "tunnel/h2/lately", "tunnel/h2/wire", "tunnel/splice"}, "HTTP/2 does not know what it is for, and can be replaced"},
	{"tunnel/tuning", []string{"tunnel/h2", "tunnel/h2/budget", "tunnel/memory"}, "HTTP/2 knows neither what it is for nor on which machine it runs"},
	{"tunnel/h2/budget", nil, "what all connections hold is counted without knowing one"},
	{"tunnel/h2/flood", nil, "what a peer costs is counted without knowing what it did"},
	{"tunnel/h2/lately", nil, "how far away a peer is depends on nothing but time"},
	{"tunnel/h2/wire", nil, "frames know no connection"},
	{"tunnel/flow", []string{"tunnel/answer", "tunnel/buffer", "tunnel/capsule", "tunnel/h2", "tunnel/identity", "tunnel/splice"}, "a flow knows neither who seals it nor what it is for"},
	{"tunnel/flow/flowtest", []string{"tunnel/answer", "tunnel/flow", "tunnel/h2"}, "it is for tests"},
	{"tunnel/seal", []string{"tunnel/flow", "tunnel/gather", "tunnel/h2", "tunnel/handshake", "tunnel/identity", "tunnel/tuning"}, "a session knows no app, and no path from another"},
	{"tunnel/relaytest", []string{"tunnel", "tunnel/h2", "tunnel/identity"}, "it is for tests and attackers, and made of what they talk to"},
	{"tunnel/freeport", nil, "a port for a test is found without knowing the test"},
	{"tunnel/pause", nil, "time passes for all alike"},
	{"tunnel/race", nil, "ways are tried in one manner, wherever they lead"},
	{"tunnel/suspicion", nil, "who hangs is found out in one way, whoever it is"},
	{"tunnel/resolver", nil, "a name is looked up for anybody"},
	{"store/redeemed", []string{"store", "tunnel/identity"}, "how often a token is good is decided in one place, in one transaction"},
	{"store/backup/cli", []string{"apps", "store/backup"}, "the commands are apart from the file, which the hub knows as well"},
	{"store/backup", []string{"store", "store/private"}, "a file holds any database, and knows nothing of what is in it"},
	{"store", []string{"store/private"}, "the store knows nothing of what it keeps"},
	{"store/etcd", []string{"tunnel/pause"}, "etcd is spoken without knowing what for"},
	{"store/etcd/etcdtest", []string{"apps/appstest"}, "it is for tests"},
	{"store/private", nil, "whose a file is depends on nobody else"},
	{"cross/...", []string{"agent/service"}, "tools are no part of the product; packages carry its service files"},
	{"scripts/chaos", []string{"scripts/process", "tunnel", "tunnel/answer", "tunnel/identity", "tunnel/pause"}, "devices that fight for names are made of what a real one is"},
	{"scripts/bench", []string{"scripts/bench/load", "scripts/hop", "scripts/process", "tunnel/pause"}, "what is measured is the product as it is built"},
	{"scripts/scale", []string{"agent/direct", "scripts/process", "tunnel/..."}, "simulated agents are made of what the real one is"},
	{"scripts/soak", []string{"agent/api", "apps/external/sdk", "apps/process", "scripts/process", "tunnel/identity", "tunnel/pause"}, "tens of thousands of operations ask the agent as its command line does"},
	{"scripts/h2server", []string{"tunnel/h2"}, "the engine alone, for the tools of others"},
	{"scripts/hostile", []string{"scripts/bench/load", "scripts/process", "tunnel", "tunnel/h2", "tunnel/identity", "tunnel/relaytest", "tunnel/seal", "tunnel/tuning"}, "attackers are made of what a real agent is"},
	{"scripts/clusters", []string{"scripts/netns", "scripts/process"}, "it runs programs, and imports none of them"},
	{"scripts/hop", nil, "a limit knows nothing of what it is for"},
	{"scripts/netns", nil, "networks of this machine's own, whoever is in them"},
	{"scripts/process", []string{"tunnel/freeport", "tunnel/identity"}, "whatever is run, it is run in one way"},
	{"scripts/...", []string{"scripts/..."}, "tools are no part of the product"},
}

// powers says who may import what others must not: one place to review each of them. Patterns name
// packages, or files if they end in .go; of the latter, "command.go" is any file of the name.
var powers = []struct {
	imported string
	by       []string
	why      string
}{
	{"github.com/urfave/cli/v2", []string{"main.go", "command.go"}, "what a command does is apart from how it is typed"},
	{"go.etcd.io/bbolt", []string{"store"}, "no bytes leave a transaction"},
	{"github.com/quic-go/qpack", []string{"tunnel"}, "header blocks are decoded in one place, behind a limit"},
	{"go.yaml.in/yaml/v3", []string{"agent/console", "agent/policy/file", "apps/tunnel/cli"}, "YAML is printed in one place and read in one"},
	{"golang.org/x/net", []string{"apps/proxy/...", "tunnel", "tunnel/h2", "tunnel/h2/wire"}, "SOCKS and DNS are spoken in two places, and header compression in one"},
	{"golang.org/x/text", []string{"apps/rooted"}, "names are compared in one place"},
	{"github.com/dop251/goja", []string{"apps/script"}, "scripts run in one place"},
	{"golang.org/x/sys", []string{"..."}, "platforms differ"},
	{"github.com/google/go-cmp", nil, "it is for tests"},
	{"os/exec", []string{"agent/notice", "agent/service", "agent/web/cli", "apps/process", "apps/script", "apps/terminal", "cross/...", "scripts/...", "store/etcd/etcdtest/real.go"}, "one place runs programs"},
	{"testing", []string{"apps/appstest", "apps/proxy/dns/dnstest", "apps/rooted/rootedtest", "apps/tunnel/tunneltest", "agent/api/apitest", "hub/directory/directorytest", "store/etcd/etcdtest/real.go", "tunnel/flow/flowtest", "tunnel/identity/identitytest"}, "it is for tests"},
	{"unsafe", []string{"apps/external/confine", "apps/process", "store"}, "the kernel's structures are read in few places"},
}

// matches reports whether a pattern of the tables above covers a package.
func matches(pattern, pkg string) bool {
	if pattern == "..." || pattern == pkg {
		return true
	}
	if below, ok := strings.CutSuffix(pattern, "/..."); ok {
		return pkg == below || strings.HasPrefix(pkg, below+"/")
	}
	if below, ok := strings.CutSuffix(pattern, "/*"); ok {
		rest, ok := strings.CutPrefix(pkg, below+"/")
		return ok && !strings.Contains(rest, "/")
	}
	return false
}

// source is a Go file of the repository, for whatever system it is.
type source struct {
	path string // with slashes: "hub/relay.go"
	pkg  string // its directory; "." is the root
	test bool
	text []byte
	fset *token.FileSet
	file *ast.File
}

func (s *source) at(pos token.Pos) token.Position { return s.fset.Position(pos) }

// imports lists what the file imports.
func (s *source) imports() []string {
	var out []string
	for _, i := range s.file.Imports {
		if p, err := strconv.Unquote(i.Path.Value); err == nil {
			out = append(out, p)
		}
	}
	return out
}

// sources reads all Go files.
func sources(t *testing.T) []*source {
	t.Helper()
	var all []*source
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		name := d.Name()
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != "." && (strings.HasPrefix(name, ".") || name == "testdata" || name == "dist"),
			d.IsDir() && filepath.ToSlash(path) == "docs/examples",             // modules of their own, as others write them
			d.IsDir() && filepath.ToSlash(path) == "scripts/clusters/programs": // a module of its own, of the programs of Kubernetes
			return fs.SkipDir
		case d.IsDir() || !strings.HasSuffix(name, ".go"):
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		s := &source{path: filepath.ToSlash(path), pkg: filepath.ToSlash(filepath.Dir(path)), test: strings.HasSuffix(name, "_test.go"), text: text, fset: token.NewFileSet()}
		if s.file, err = parser.ParseFile(s.fset, s.path, text, parser.ParseComments|parser.SkipObjectResolution); err != nil {
			return err
		}
		all = append(all, s)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// common is what every room may import, as it may the library: the times of documents.
const common = "tunnel/unixtime"

func TestImportsPointOneWay(t *testing.T) {
	for _, s := range sources(t) {
		if s.test {
			continue
		}
		i := slices.IndexFunc(arrows, func(a arrow) bool { return matches(a.of, s.pkg) })
		if i < 0 {
			t.Errorf("%s: no arrow is known for this package", s.path)
			continue
		}
		for _, imported := range s.imports() {
			ours, ok := strings.CutPrefix(imported, "ztm/")
			if ok && ours != common && !slices.ContainsFunc(arrows[i].may, func(p string) bool { return matches(p, ours) }) {
				t.Errorf("%s imports %s: %s", s.path, imported, arrows[i].why)
			}
		}
	}
}

// TestArrowsAreNotWiderThanTheirUse keeps the table from saying what was true once.
func TestArrowsAreNotWiderThanTheirUse(t *testing.T) {
	used := map[string]bool{}
	for _, s := range sources(t) {
		if s.test {
			continue
		}
		i := slices.IndexFunc(arrows, func(a arrow) bool { return matches(a.of, s.pkg) })
		if i < 0 {
			continue // told by TestImportsPointOneWay
		}
		used[arrows[i].of] = true
		for _, imported := range s.imports() {
			if ours, ok := strings.CutPrefix(imported, "ztm/"); ok {
				for _, may := range arrows[i].may {
					used[arrows[i].of+" -> "+may] = used[arrows[i].of+" -> "+may] || matches(may, ours)
				}
			}
		}
	}
	for _, a := range arrows {
		if !used[a.of] {
			t.Errorf("no package is %s", a.of)
		}
		for _, may := range a.may {
			if !used[a.of+" -> "+may] {
				t.Errorf("%s does not import %s any longer", a.of, may)
			}
		}
	}
}

func TestPowersStayWhereTheyAre(t *testing.T) {
	for _, s := range sources(t) {
		if s.test {
			continue
		}
		for _, imported := range s.imports() {
			known := false
			for _, p := range powers {
				if imported != p.imported && !strings.HasPrefix(imported, p.imported+"/") {
					continue
				}
				known = true
				if !slices.ContainsFunc(p.by, func(by string) bool {
					return matches(by, s.pkg) || by == s.path || by == "command.go" && filepath.Base(s.path) == by
				}) {
					t.Errorf("%s imports %s: %s", s.path, imported, p.why)
				}
			}
			if first, _, _ := strings.Cut(imported, "/"); !known && strings.Contains(first, ".") {
				t.Errorf("%s imports %s, a module that is new here", s.path, imported)
			}
		}
	}
}

// TestTheHubReachesNoSeal follows the imports of imports too, on every system that the hub is built
// for.
func TestTheHubReachesNoSeal(t *testing.T) {
	for _, system := range []string{"linux", "darwin", "freebsd", "windows"} {
		cmd := exec.Command("go", "list", "-deps", "-json=ImportPath", "./hub")
		cmd.Env = append(os.Environ(), "GOOS="+system, "CGO_ENABLED=0")
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v: %v", cmd, err)
		}
		reached := 0
		for dec := json.NewDecoder(bytes.NewReader(out)); ; reached++ {
			var p struct{ ImportPath string }
			if err := dec.Decode(&p); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatal(err)
			}
			for _, never := range []string{"ztm/tunnel/seal", "ztm/tunnel/flow", "ztm/agent", "ztm/apps"} {
				if p.ImportPath == never || strings.HasPrefix(p.ImportPath, never+"/") {
					t.Errorf("%s: the hub reaches %s: it carries what it cannot read", system, p.ImportPath)
				}
			}
		}
		if reached < 100 {
			t.Errorf("%s: only %d packages were listed", system, reached)
		}
	}
}
