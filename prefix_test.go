package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/urfave/cli/v2"

	"ztm/agent/api"
	"ztm/agent/api/apitest"
	"ztm/agent/console"
	"ztm/apps"
)

// runnable is a command that can be run, and the words that lead to it.
type runnable struct {
	words []string
	*cli.Command
}

func (r runnable) String() string { return strings.Join(r.words, " ") }

// allCommands lists every command of this binary that can be run.
func allCommands(t *testing.T) []runnable {
	t.Helper()
	var out []runnable
	eachCommand(func(words []string, cmd *cli.Command) {
		if cmd.Action != nil {
			out = append(out, runnable{words, cmd})
		}
	})
	if len(out) < 50 {
		t.Fatalf("only %d commands were found", len(out))
	}
	return out
}

// TestUsageBeginsInLowerCase holds one form for the lines of help: the help of a command makes the
// first letter large where a sentence begins, and completion takes the line as it is.
func TestUsageBeginsInLowerCase(t *testing.T) {
	check := func(words []string, usage string) {
		first, _, _ := strings.Cut(usage, " ")
		if usage == "" || first != strings.ToLower(first) && first != strings.ToUpper(first) && first[0] != '`' || strings.HasSuffix(strings.TrimSuffix(usage, "..."), ".") {
			t.Errorf("ztm %s: %q is no line of help: it begins in lower case and ends without a full stop", strings.Join(words, " "), usage)
		}
	}
	eachCommand(func(words []string, cmd *cli.Command) {
		check(words, cmd.Usage)
		for _, f := range cmd.Flags {
			if d, ok := f.(cli.DocGenerationFlag); ok {
				check(append(words, "--"+f.Names()[0]), d.GetUsage())
			}
		}
	})
}

// TestOptionsAddAndRemove holds one pair of words for what is put into a list and taken out of it.
// Other words may be aliases alone: those of ztm before version 1.
func TestOptionsAddAndRemove(t *testing.T) {
	pairs := 0
	eachCommand(func(words []string, cmd *cli.Command) {
		has := map[string]bool{}
		for _, f := range cmd.Flags {
			has[f.Names()[0]] = true
		}
		for name := range has {
			at := "ztm " + strings.Join(words, " ") + " --" + name
			for _, word := range []string{"del", "rm", "unset", "drop"} {
				if strings.HasPrefix(name, word) {
					t.Errorf("%s: --remove is the word", at)
				}
			}
			what, removes := strings.CutPrefix(name, "remove-")
			if removes && !has["add-"+what] {
				t.Errorf("%s has no --add-%s beside it", at, what)
			} else if removes {
				pairs++
			}
		}
	})
	if pairs == 0 {
		t.Error("no command has such a pair")
	}
}

// eachCommand calls f for every command with its words, and for those below it.
func eachCommand(f func(words []string, cmd *cli.Command)) {
	c := console.New(console.Config{})
	var walk func(words []string, commands []*cli.Command)
	walk = func(words []string, commands []*cli.Command) {
		for _, cmd := range commands {
			words := append(slices.Clone(words), cmd.Name)
			f(words, cmd)
			walk(words, cmd.Subcommands)
		}
	}
	walk(nil, append(commands(c), c.Commands()...))
}

func TestEveryCommandSaysWhatItIsAbout(t *testing.T) {
	for _, cmd := range allCommands(t) {
		if !slices.Contains([]string{apps.Device, apps.InMesh, apps.AtEndpoint, apps.FromEndpoint}, cmd.Category) {
			t.Errorf("ztm %s does not say, in its Category, what the prefixes `mesh` and `ep` mean for it", cmd)
		}
	}
}

// recorder is an agent that has joined the meshes demo and other, knows the endpoints of
// [apitest.Demo], and says no to the rest.
type recorder struct {
	dir   string
	token string
	taken string // the name of an endpoint that another one had before

	mu       sync.Mutex
	requests []string // guarded by mu; "METHOD /path?query"
}

func newRecorder(t *testing.T) *recorder {
	t.Helper()
	dir, err := os.MkdirTemp("", "ztm-test-") // t.TempDir is often too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	r := &recorder{dir: dir}
	l, token, err := api.Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	r.token = token
	server := &http.Server{Handler: r}
	var done sync.WaitGroup
	done.Go(func() { server.Serve(l) })
	t.Cleanup(func() { server.Close(); done.Wait() })
	return r
}

func (r *recorder) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	request := req.Method + " " + req.URL.RequestURI()
	r.mu.Lock()
	r.requests = append(r.requests, request)
	r.mu.Unlock()
	demo := apitest.Demo()
	answer, known := demo[strings.Replace(request, "/other/", "/demo/", 1)]
	switch {
	case request == "GET "+api.MeshesPath:
		meshes := demo[request].([]api.Mesh)
		other := meshes[0]
		other.Name = "other"
		json.NewEncoder(w).Encode(append(meshes, other))
	case known && req.Method == http.MethodGet && strings.Contains(req.URL.Path, "/endpoints"):
		json.NewEncoder(w).Encode(answer)
	case request == "POST "+api.NamePath("demo", r.taken):
		w.WriteHeader(http.StatusConflict)
		w.Write([]byte(`{"error": "conflict", "message": "another device was nas"}`))
	case request == "POST "+api.NamePath("demo", "nas"):
		json.NewEncoder(w).Encode(demo["GET "+api.EndpointsPath("demo", apps.Filter{Name: "nas"})].([]apps.Endpoint)[0])
	case strings.HasSuffix(request, "/users"):
		json.NewEncoder(w).Encode(demo["GET "+api.UsersPath("demo")])
	case strings.Contains(req.URL.RawQuery, "name="):
		w.Write([]byte("[]"))
	default:
		w.WriteHeader(http.StatusForbidden)
		w.Write([]byte(`{"error": "http_request_denied", "message": "no"}`))
	}
}

// run runs a command line and returns its status, what it wrote to standard error, and what it
// asked of the agent.
func (r *recorder) run(args ...string) (status int, stderr string, requests []string) {
	var errs bytes.Buffer
	env := map[string]string{"HOME": r.dir, "ZTM_DATA": r.dir, "ZTM_MESH": "other"}
	c := console.New(console.Config{Stdin: strings.NewReader(""), Stderr: &errs, Getenv: func(name string) string { return env[name] }})
	status = c.Run(context.Background(), args, commands(c))
	r.mu.Lock()
	defer r.mu.Unlock()
	requests, r.requests = r.requests, nil
	return status, errs.String(), requests
}

// arguments makes a line of the command that gets as far as the agent: names for the arguments, and
// the options without which it does nothing.
func (r runnable) arguments(t *testing.T, prefix string) []string {
	file := filepath.Join(t.TempDir(), "file.sh")
	if err := os.WriteFile(file, []byte(`{"tunnels": [{"name": "tcp/web", "outbound": [{"endpoint": "nas", "targets": ["127.0.0.1:80"]}]}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	options := map[string][]string{
		"tunnel open inbound":  {"--listen", "18080"},
		"tunnel open outbound": {"--targets", "127.0.0.1:80", "--users", "bob"},
		"tunnel set inbound":   {"--listen", "18080"},
		"tunnel set outbound":  {"--targets", "127.0.0.1:80"},
		"tunnel allow":         {"--target", "10.0.0.0/8:22", "--users", "bob"},
		"tunnel disallow":      {"--target", "10.0.0.0/8:22"},
		"proxy rules":          {"--users", "bob", "--targets", "*", "--action", "allow"},
		"proxy config":         {"--add-target", "*"},
		"terminal config":      {"--add-user", "bob"},
		"script config":        {"--add-user", "bob"},
		"cloud share":          {"--add-user", "bob"},
		"cloud download":       {"--list"},
		"label":                {"--add", "x"},
		"group add":            {"--max", "1h"},
		"apply":                {"--file", file},
		"policy apply":         {"--file", file},
		"policy diff":          {"--file", file},
		"rotate root":          {"--permit", file + ".new"},
		"import":               {"--apply"},
	}[r.String()]
	values := map[string]string{
		"USER": "bob", "GROUP": "ops", "auto|lan|off": "off", "LABEL...": "kind=till", "TARGET": "tcp/web", "NAME": "office", "HUB": "hub.example.com:8888", "FILE": file, "DIR": t.TempDir(), "tcp/NAME": "tcp/web",
		"[PROVIDER/]NAME": "bob/web", "PROVIDER/NAME[@VERSION]": "bob/web", "PROVIDER/NAME[@VERSION]|DIR": "bob/web", "NAME[@SEQUENCE]": "web",
		"HOST:PORT": "127.0.0.1:1", "[IP:]PORT:HOST:PORT": "1:127.0.0.1:1", "MESH": "demo", "CLUSTER": "phone", "EP": "phone", "ID": "5f0c", "FROM": "/x", "TO": "/tmp/", "PATH": "x", "PATH[@VERSION]": "x", "SRC": file,
	}
	var names []string
	before, _, _ := strings.Cut(r.ArgsUsage, "[--")
	for name := range strings.FieldsSeq(before) {
		optional := strings.HasPrefix(name, "[") && strings.HasSuffix(name, "]")
		switch value := values[name]; {
		case optional || name == "..." || r.Category == apps.Device:
		case value == "":
			t.Errorf("ztm %s: no value is known for %s: add one to this test", r, name)
		case r.Category == apps.AtEndpoint && prefix == "ep" && name == "EP", prefix == "mesh" && name == "MESH":
		default:
			names = append(names, value)
		}
	}
	switch r.String() {
	case "policy label": // whose ID it asks for first
		names[0] = "phone"
	case "forward": // it would go on until it is interrupted
		names[0] = "nobody"
	case "app run", "app publish": // it looks at the directory first
		for name, text := range map[string]string{"app.json": `{"name": "web", "version": "1", "exec": {"any": ["web"]}}`, "web": "#!/bin/sh\n"} {
			if err := os.WriteFile(filepath.Join(values["DIR"], name), []byte(text), 0o700); err != nil {
				t.Fatal(err)
			}
		}
	case "invite", "can": // a user, or --hub or --at
		names = append(names, values["USER"])
	case "import": // a file of another program
		if err := os.WriteFile(file, []byte("[[proxies]]\nname = \"web\"\ntype = \"tcp\"\nlocalPort = 80\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	case "file cp", "file get": // without an endpoint everything would be here
		if prefix == "mesh" {
			names[0] = "phone:/x"
		}
	case "terminal open", "terminal attach": // one way or the other it needs an endpoint
		if prefix == "mesh" {
			names = append(names, "phone")
		}
	}
	return append(append(slices.Clone(r.words), names...), options...)
}

// aside reports whether a request only looks something up.
func aside(request string) bool {
	method, uri, _ := strings.Cut(request, " ")
	path, query, _ := strings.Cut(uri, "?")
	return method == http.MethodGet && (path == api.MeshesPath || path == api.UsersPath("demo") ||
		path == api.MeshPath("demo")+"/endpoints" && query != "") || path == api.NamePath("demo", "nas")
}

// TestEveryCommandHeedsItsPrefixes runs each command behind each prefix: it does what follows
// there, or nothing.
func TestEveryCommandHeedsItsPrefixes(t *testing.T) {
	agent := newRecorder(t)
	for _, cmd := range allCommands(t) {
		t.Run(cmd.String(), func(t *testing.T) {
			for _, prefix := range []string{"ep", "mesh"} {
				for _, value := range map[string][]string{"ep": {"demo/nas", "demo/nowhere"}, "mesh": {"demo", "nowhere"}}[prefix] {
					status, stderr, requests := agent.run(append([]string{prefix, value}, cmd.arguments(t, prefix)...)...)
					heeds := cmd.Category == apps.AtEndpoint || cmd.Category == apps.FromEndpoint || cmd.Category == apps.InMesh && prefix == "mesh"
					switch {
					case !heeds:
						if status != 2 || len(requests) > 0 {
							t.Errorf("%s %s: status %d, %q, and the agent was asked for %q; want wrong usage and nothing done", prefix, value, status, stderr, requests)
						}
					case strings.Contains(value, "nowhere"):
						for _, request := range requests {
							if !aside(request) {
								t.Errorf("%s %s: there is no such thing, and the agent was asked for %s", prefix, value, request)
							}
						}
						if status == 0 {
							t.Errorf("%s %s: it was not noticed that there is no such thing", prefix, value)
						}
					case prefix == "mesh" && cmd.Name == "mesh":
						if status != 0 { // all meshes are asked for, and one is shown
							t.Errorf("%s %s: status %d, %s", prefix, value, status, stderr)
						}
					default:
						checkPlace(t, prefix, stderr, requests)
					}
				}
			}
		})
	}
}

// checkPlace checks that something was asked for, and nothing but of the endpoint or the mesh that
// the prefix chose.
func checkPlace(t *testing.T, prefix, stderr string, requests []string) {
	t.Helper()
	place := api.MeshPath("demo") + "/"
	if prefix == "ep" {
		place = api.EndpointPath("demo", apitest.NasID)
	}
	there := 0
	for _, request := range requests {
		_, path, _ := strings.Cut(request, " ")
		switch {
		case strings.HasPrefix(path+"/", place):
			there++
		case !aside(request) && path != api.EndpointsPath("demo", apps.Filter{}):
			t.Errorf("%s: the agent was asked for %s, which is elsewhere", prefix, request)
		}
	}
	if there == 0 {
		t.Errorf("%s: nothing was asked for at %s: %s%q", prefix, place, stderr, requests)
	}
}

func TestAnEndpointIsNamedOnce(t *testing.T) {
	agent := newRecorder(t)
	for _, line := range []string{
		"ep demo/nas log ep phone", "ep demo/nas terminal open phone", "ep demo/nas terminal open phone -- ls", "mesh demo get mesh demo",
		"ep demo/nas script x.sh --ep phone", "ep demo/nas terminal attach phone 1f0a92c4",
	} {
		if status, stderr, requests := agent.run(strings.Fields(line)...); status != 2 || len(requests) > 0 {
			t.Errorf("%s: status %d, %s%q", line, status, stderr, requests)
		}
	}
}

// TestTheMeshAsAnotherEndpointSeesIt asks real agents.
func TestTheMeshAsAnotherEndpointSeesIt(t *testing.T) {
	w := newWorld(t)
	w.join("root", "root")
	w.join("root2", "root")
	w.join("bob", "bob")
	at := func(args ...string) string {
		t.Helper()
		return w.ztm("root", append([]string{"ep", "ep-root2"}, args...)...)
	}
	for _, args := range [][]string{{"identity"}, {"get", "mesh"}, {"get", "ep"}, {"get", "user"}, {"describe", "mesh"}} {
		if there, here := at(args...), w.ztm("root2", args...); there != here {
			t.Errorf("%v: from another endpoint %q, there %q", args, there, here)
		}
	}
	if out := at("get", "hub"); !strings.Contains(out, w.address+"  Attached") {
		t.Errorf("hubs: %s", out)
	}
	if out := at("describe", "ep", "ep-bob"); !strings.Contains(out, "ep-bob\n") {
		t.Errorf("an endpoint: %s", out)
	}
	hops := strings.Split(at("ping", "ep", "ep-bob"), "\n")
	if len(hops) < 4 || !strings.Contains(hops[1], "ep-root2") || !strings.Contains(hops[3], "ep-bob") || strings.Contains(hops[3], "ms") == false {
		t.Errorf("ping: %q", hops)
	}
	for _, args := range []string{"get mesh", "identity", "ping ep", "get hub"} {
		if _, stderr, status := w.try("root", append([]string{"ep", "ep-bob"}, strings.Fields(args)...)...); status != 1 || !strings.Contains(stderr, "belongs to user bob") {
			t.Errorf("%s at an endpoint of another user: status %d, %s", args, status, stderr)
		}
	}
	w.try("root", "ep", "ep-root2", "leave", "demo")
	w.try("root", "ep", "ep-root2", "join", "x", "--as", "y", "--permit", w.path("root.json"))
	for _, name := range []string{"root", "root2"} {
		if out := w.ztm(name, "get", "mesh"); !strings.Contains(out, "demo") || strings.Count(out, "\n") != 2 {
			t.Errorf("the meshes of %s: %s", name, out)
		}
	}
}

func TestALabelIsAWord(t *testing.T) {
	w := newWorld(t)
	w.join("root", "root")
	for label, want := range map[string]int{"env:prod": 0, "rack=a/3": 0, "a b": 2, "a\tb": 2, "": 2, "\u202eb": 2, strings.Repeat("x", 64): 2} {
		if _, stderr, status := w.try("root", "label", "--add="+label); status != want {
			t.Errorf("%q: status %d, %s", label, status, stderr)
		}
	}
	c := console.New(console.Config{Getenv: func(name string) string { return map[string]string{"HOME": w.dir, "ZTM_DATA": w.path("root")}[name] }})
	c.Run(t.Context(), []string{"config"}, nil) // which chooses the agent
	path := api.EndpointPath("demo", w.endpoint("ep-root").ID, "labels")
	if err := c.Do(t.Context(), http.MethodPost, path, []string{"a b"}, nil); err == nil {
		t.Error("the agent took a label that the command line refuses")
	}
}
