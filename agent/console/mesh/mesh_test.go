package mesh_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ztm/agent/api"
	"ztm/agent/api/apitest"
	"ztm/agent/console"
	"ztm/agent/console/mesh"
	"ztm/apps"
	"ztm/apps/appstest"
	"ztm/tunnel/answer"
)

var update = flag.Bool("update", false, "write the expected output anew")

func TestMain(m *testing.M) { os.Exit(appstest.Run(m)) }

// result is what a command line came to.
type result struct {
	stdout, stderr string
	status         int
}

// ztm runs a command line against an agent.
func ztm(t *testing.T, a *apitest.Agent, stdin string, args ...string) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	c := console.New(console.Config{
		Stdin: strings.NewReader(stdin), Stdout: &stdout, Stderr: &stderr,
		Getenv: func(name string) string { return map[string]string{"HOME": a.Dir, "ZTM_DATA": a.Dir}[name] },
	})
	status := c.Run(context.Background(), args, mesh.Commands(c, apps.Commands{}))
	return result{stdout.String(), stderr.String(), status}
}

// TestTranscripts runs the command lines of testdata/*.txt, each of which begins with "$ ztm", and
// compares what follows: the output, then the requests that changed something, after ">", then the
// exit status if it is not zero.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, path := range files {
		t.Run(filepath.Base(path), func(t *testing.T) {
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			got := transcript(t, string(want))
			if *update {
				if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func transcript(t *testing.T, script string) string {
	t.Helper()
	a := apitest.New(t, apitest.Demo())
	var out strings.Builder
	for line := range strings.Lines(script) {
		command, ok := strings.CutPrefix(strings.TrimSpace(line), "$ ztm ")
		if !ok {
			continue
		}
		r := ztm(t, a, "", strings.Fields(command)...)
		fmt.Fprintf(&out, "$ ztm %s\n%s%s", command, r.stdout, strings.ReplaceAll(r.stderr, a.Dir, "DIR"))
		for _, request := range a.Changes() {
			fmt.Fprintf(&out, "> %s\n", strings.TrimSpace(request))
		}
		if r.status != 0 {
			fmt.Fprintf(&out, "[exit status %d]\n", r.status)
		}
		out.WriteByte('\n')
	}
	return out.String()
}

func TestJoinSendsThePermitAsItIs(t *testing.T) {
	const permit = `{"ca": "PEM",   "bootstraps": ["hub:8888"]}`
	file := filepath.Join(t.TempDir(), "bob.json")
	if err := os.WriteFile(file, []byte(permit), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, permit, stdin string }{{"file", file, ""}, {"standard input", "-", permit}} {
		t.Run(tt.name, func(t *testing.T) {
			a := apitest.New(t, apitest.Demo())
			if r := ztm(t, a, tt.stdin, "join", "demo", "--as", "ep-bob", "--permit", tt.permit); r != (result{}) {
				t.Fatalf("join is not silent: %+v", r)
			}
			var in api.Join
			changes := a.Changes()
			if len(changes) != 1 {
				t.Fatalf("requests: %q", changes)
			}
			body, ok := strings.CutPrefix(changes[0], "POST /api/meshes/demo ")
			if !ok || json.Unmarshal([]byte(body), &in) != nil || in.Name != "ep-bob" {
				t.Fatalf("request: %s", changes[0])
			}
			var want, got any
			if err := json.Unmarshal([]byte(permit), &want); err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(in.Permit, &got); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("permit (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAJoinWaitsForARedeemerThatIsAwayOrDoesNotAnswer(t *testing.T) {
	appstest.Long(t)
	file := filepath.Join(t.TempDir(), "bob.json")
	if err := os.WriteFile(file, []byte(`{"ca": "PEM"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, code := range []answer.Code{answer.Unavailable, answer.Timeout} {
		tries := 0
		a := apitest.New(t, map[string]any{"POST /api/meshes/demo": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if tries++; tries == 1 {
				answer.Fail(w, slog.New(slog.DiscardHandler), answer.Errorf(code, "the redeemer is not there"))
				return
			}
			answer.JSON(w, api.Mesh{Name: "demo"})
		})})
		r := ztm(t, a, "", "join", "demo", "--as", "ep-bob", "--permit", file, "--wait", "1m")
		if r.status != 0 || tries != 2 {
			t.Errorf("%s: %+v after %d tries", code, r, tries)
		}
	}
}

func TestWhoCannotJoinReadsWhatHelps(t *testing.T) {
	file := filepath.Join(t.TempDir(), "bob.json")
	if err := os.WriteFile(file, []byte(`{"ca": "PEM"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		code   answer.Code
		joined []api.Mesh
		hint   string
	}{
		{answer.Denied, nil, "ztm invite USER --permit FILE"},
		{answer.Conflict, nil, "--replace"},
		{answer.Conflict, []api.Mesh{{Name: "other", ID: "x"}}, "--replace"},
		{answer.Conflict, []api.Mesh{{Name: "demo", ID: "x"}}, "ztm leave demo"},
	} {
		a := apitest.New(t, map[string]any{
			"GET " + api.MeshesPath: tt.joined,
			"POST /api/meshes/demo": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				answer.Fail(w, slog.New(slog.DiscardHandler), answer.Errorf(tt.code, "no"))
			})})
		_, hint, _ := strings.Cut(ztm(t, a, "", "join", "demo", "--as", "ep-bob", "--permit", file).stderr, "hint: ")
		if !strings.Contains(hint, tt.hint) {
			t.Errorf("%s, where %v is joined: hint %q, want %q", tt.code, tt.joined, hint, tt.hint)
		}
	}
}

func TestABadPermitFileIsRefusedBeforeTheAgentIsAsked(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{"empty": "", "text": "hello", "cut": `{"ca": "PEM`, "large": strings.Repeat(" ", 2<<20)} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(dir, name)
			if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			a := apitest.New(t, apitest.Demo())
			r := ztm(t, a, "", "join", "demo", "--as", "x", "--permit", file)
			if r.status != 1 || !strings.HasPrefix(r.stderr, "ztm: permit: ") || len(a.Changes()) > 0 {
				t.Errorf("%+v", r)
			}
		})
	}
}

func TestInviteWritesThePermit(t *testing.T) {
	a := apitest.New(t, apitest.Demo())
	dir := t.TempDir()
	file := filepath.Join(dir, "bob.json")
	if err := os.WriteFile(file, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(dir, "bob.pub")
	if err := os.WriteFile(key, []byte("-----BEGIN PUBLIC KEY-----\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if r := ztm(t, a, "", "invite", "bob", "--identity", key, "--permit", file); r != (result{}) {
		t.Fatalf("invite is not silent: %+v", r)
	}
	if diff := cmp.Diff([]string{`POST /api/meshes/demo/permits/bob {"publicKey":"-----BEGIN PUBLIC KEY-----\n"}`}, a.Changes()); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
	b, err := os.ReadFile(file)
	if err != nil || strings.TrimSpace(string(b)) != `{"ca":"..."}` {
		t.Errorf("permit %q, %v", b, err)
	}
	if fi, err := os.Stat(file); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v; want 0600", fi.Mode(), err)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 2 {
		t.Errorf("files left: %v, %v", left, err)
	}
}

func TestRotateWritesTheNewRootPermit(t *testing.T) {
	for _, tt := range []struct {
		name    string
		args    []string
		changes []string
		permit  string
	}{
		{"a month", nil, []string{`POST /api/meshes/demo/ca {"grace":2592000000}`}, `{"ca":"new"}`},
		{"at once", []string{"--grace", "0"}, []string{`POST /api/meshes/demo/ca {"grace":0}`}, `{"ca":"new"}`},
		{"once more", []string{"--again"}, nil, `{"ca":"again"}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := apitest.New(t, apitest.Demo())
			file := filepath.Join(t.TempDir(), "root.json")
			args := append([]string{"rotate", "root", "--permit", file}, tt.args...)
			if r := ztm(t, a, "", args...); r != (result{}) {
				t.Fatalf("rotate is not silent: %+v", r)
			}
			if diff := cmp.Diff(tt.changes, a.Changes()); diff != "" {
				t.Errorf("requests (-want +got):\n%s", diff)
			}
			if b, err := os.ReadFile(file); err != nil || strings.TrimSpace(string(b)) != tt.permit {
				t.Errorf("permit %q, %v", b, err)
			}
			if fi, err := os.Stat(file); err != nil || fi.Mode().Perm() != 0o600 {
				t.Errorf("mode %v, %v; want 0600", fi.Mode(), err)
			}
		})
	}
}

func TestRotateChangesNothingWhenThePermitCannotBeKept(t *testing.T) {
	a := apitest.New(t, apitest.Demo())
	r := ztm(t, a, "", "rotate", "root", "--permit", filepath.Join(t.TempDir(), "no", "root.json"))
	if r.status != 1 || len(a.Changes()) > 0 {
		t.Errorf("%+v, %v", r, a.Changes())
	}
}

func TestThePermitOfAHubIsForItsKey(t *testing.T) {
	a := apitest.New(t, apitest.Demo())
	key := filepath.Join(t.TempDir(), "hub.pub")
	if err := os.WriteFile(key, []byte("-----BEGIN PUBLIC KEY-----\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	r := ztm(t, a, "", "invite", "--hub", "--identity", key, "--name", "hub2.example.com:8888")
	if r.status != 0 || !strings.Contains(r.stdout, `"ca"`) {
		t.Fatalf("%+v", r)
	}
	want := []string{`POST /api/meshes/demo/permits {"publicKey":"-----BEGIN PUBLIC KEY-----\n","names":["hub2.example.com:8888"]}`}
	if diff := cmp.Diff(want, a.Changes()); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
	for _, args := range [][]string{
		{"invite", "--hub"}, {"invite", "--hub", "bob", "--identity", key}, {"invite", "bob", "--name", "h:1"},
		{"invite", "--hub", "--identity", key, "--name", "h"}, {"invite", "--hub", "--identity", key, "--expires", "1h"},
	} {
		if r := ztm(t, a, "", args...); r.status != 2 {
			t.Errorf("%q: status %d, %s", args, r.status, r.stderr)
		}
	}
}

func TestInviteChangesNothingWhenThePermitCannotBeKept(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(dir, "link")
	if err := os.Symlink(filepath.Join(dir, "elsewhere"), link); err != nil {
		t.Fatal(err)
	}
	for name, permit := range map[string]string{
		"a directory": dir, "a link": link, "no such directory": filepath.Join(dir, "no", "bob.json"),
	} {
		t.Run(name, func(t *testing.T) {
			a := apitest.New(t, apitest.Demo())
			r := ztm(t, a, "", "invite", "bob", "--permit", permit)
			if r.status != 1 || len(a.Changes()) > 0 {
				t.Errorf("%+v", r)
			}
		})
	}
}

// The key of the mesh is in the root permit and perhaps nowhere else.
func TestInviteDoesNotReplaceARootPermit(t *testing.T) {
	a := apitest.New(t, apitest.Demo())
	file := filepath.Join(t.TempDir(), "root.json")
	root := `{"version":1,"ca":"...","caKey":"..."}`
	if err := os.WriteFile(file, []byte(root), 0o600); err != nil {
		t.Fatal(err)
	}
	r := ztm(t, a, "", "invite", "bob", "--permit", file)
	if want := (result{"", "ztm: " + file + " is a root permit: it holds the key of a mesh, which would be lost\nhint: choose another file\n", 1}); r != want {
		t.Errorf("got %+v, want %+v", r, want)
	}
	if b, err := os.ReadFile(file); string(b) != root || len(a.Changes()) > 0 {
		t.Errorf("the file holds %q, %v; requests %q", b, err, a.Changes())
	}
}

func TestARefusedInvitationLeavesThePermitAlone(t *testing.T) {
	a := apitest.New(t, apitest.Demo())
	dir := t.TempDir()
	file := filepath.Join(dir, "root.json")
	if err := os.WriteFile(file, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := ztm(t, a, "", "invite", "root", "--permit", file)
	if want := (result{"", "ztm: only root may invite root\n", 1}); r != want {
		t.Errorf("got %+v, want %+v", r, want)
	}
	if b, err := os.ReadFile(file); string(b) != "old" {
		t.Errorf("the file holds %q, %v", b, err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("files left: %v, %v", left, err)
	}
}

func TestTheMeshIsChosen(t *testing.T) {
	one, two := api.Mesh{Name: "one"}, api.Mesh{Name: "two"}
	for _, tt := range []struct {
		name    string
		joined  []api.Mesh
		args    string
		env     string
		want    string
		failure string
	}{
		{name: "the only one", joined: []api.Mesh{one}, want: "one"},
		{name: "the only one, not the default", joined: []api.Mesh{one}, env: "two", want: "one"},
		{name: "the default", joined: []api.Mesh{one, two}, env: "two", want: "two"},
		{name: "the given one", joined: []api.Mesh{one, two}, args: "mesh one", env: "two", want: "one"},
		{name: "the endpoint's", joined: []api.Mesh{one, two}, args: "ep two/.", env: "one", want: "two"},
		{name: "none is joined", failure: "ztm: this agent has joined no mesh yet\nhint: join one with: ztm join MESH --as NAME --permit FILE\n"},
		{name: "none is given", joined: []api.Mesh{one, two},
			failure: "ztm: no mesh specified\nhint: say which with: ztm mesh NAME ..., or: ztm config --mesh NAME; joined are: one, two\n"},
		{name: "the given one is not joined", joined: []api.Mesh{one}, args: "mesh two", failure: "ztm: mesh 'two' not found\nhint: joined are: one\n"},
		{name: "the default is not joined", joined: []api.Mesh{one, two}, env: "three", failure: "ztm: mesh 'three' not found\nhint: joined are: one, two\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			asked := ""
			hubs := func(name string) http.HandlerFunc {
				return func(w http.ResponseWriter, _ *http.Request) {
					asked = name
					w.Write([]byte("[]"))
				}
			}
			a := apitest.New(t, map[string]any{
				"GET " + api.MeshesPath: tt.joined, "GET " + api.HubsPath("one"): hubs("one"), "GET " + api.HubsPath("two"): hubs("two"),
			})
			var stdout, stderr bytes.Buffer
			c := console.New(console.Config{Stdout: &stdout, Stderr: &stderr, Getenv: func(name string) string {
				return map[string]string{"HOME": a.Dir, "ZTM_DATA": a.Dir, "ZTM_MESH": tt.env}[name]
			}})
			c.Run(context.Background(), append(strings.Fields(tt.args), "get", "hub"), mesh.Commands(c, apps.Commands{}))
			if asked != tt.want || stderr.String() != tt.failure {
				t.Errorf("asked %q, want %q; printed %q, want %q", asked, tt.want, stderr.String(), tt.failure)
			}
		})
	}
}

func TestNamesOfOthersCannotWriteToTheTerminal(t *testing.T) {
	evil := "a\x1b[2J\r\nztm: b\u202e\u009bc\u2028"
	answers := apitest.Demo()
	answers["GET "+api.EndpointsPath("demo", apps.Filter{})] = []apps.Endpoint{{ID: apitest.NasID, Name: evil, User: evil, Labels: []string{evil}, Address: evil}}
	answers["DELETE "+api.UserPath("demo", "eve")] = answer.Errorf(answer.Denied, "%s", evil)
	a := apitest.New(t, answers)
	for _, args := range [][]string{
		{"get", "ep"}, {"get", "ep", "-o", "wide"}, {"get", "ep", "-o", "json"}, {"get", "ep", "-o", "yaml"}, {"evict", "eve"}, {"log", "ep"},
	} {
		r := ztm(t, a, "", args...)
		text := r.stdout + r.stderr
		if strings.ContainsAny(strings.ReplaceAll(text, "\n", ""), "\x1b\r\u202e\u009b\u2028") || strings.Contains(text, "\nztm: b") {
			t.Errorf("%v printed %q", args, text)
		}
		if r.stdout != "" && strings.Contains(fmt.Sprint(args), "json") {
			var eps []apps.Endpoint
			if err := json.Unmarshal([]byte(r.stdout), &eps); err != nil || eps[0].Name != evil {
				t.Errorf("the JSON lost the name: %v, %+v", err, eps)
			}
		}
	}
}
