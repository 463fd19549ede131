package grammar

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ztm/apps"
	"ztm/apps/appstest"
)

var update = flag.Bool("update", false, "write the expected output anew")

func TestMain(m *testing.M) { os.Exit(appstest.Run(m)) }

// program is a command tree with one of everything.
func program() *Command {
	ep := func() []*Command {
		return []*Command{{Name: "ep", Aliases: []string{"endpoint"}, Usage: "an endpoint", Args: "[EP]", Runs: true, About: apps.FromEndpoint}}
	}
	end := func(name, alias, option string) *Command {
		return &Command{
			Name: name, Aliases: []string{alias}, Usage: "open an " + name, Args: "tcp/NAME", Runs: true, About: apps.AtEndpoint,
			Options: []Option{
				{Name: option, Kind: List, Value: "ADDRESS", Usage: "where to"},
				{Name: "users", Kind: List, Value: "USER", Usage: "who may"},
			},
		}
	}
	return &Command{
		Name: "ztm", Usage: "a mesh",
		Options: []Option{
			{Name: "data", Aliases: []string{"d"}, Kind: One, Value: "DIR", Usage: "data directory", Default: "~/.ztm"},
			{Name: "output", Aliases: []string{"o"}, Kind: One, Value: "table|json", Usage: "output format"},
		},
		Commands: []*Command{
			{Name: "mesh", Usage: "in a mesh", Prefix: true, Args: "MESH"},
			{Name: "ep", Aliases: []string{"endpoint"}, Usage: "at an endpoint", Prefix: true, Args: "[MESH/]EP"},
			{
				Name: "join", Usage: "join a mesh", Args: "MESH", Runs: true,
				Description: "The name is yours to choose.\n\nExample:\n  ztm join demo --as a --permit p.json",
				Options: []Option{
					{Name: "as", Kind: One, Value: "NAME", Usage: "name of the endpoint", Required: true},
					{Name: "permit", Aliases: []string{"p"}, Kind: One, Value: "FILE", Usage: "permit to join with", Required: true},
				},
			},
			{Name: "label", Usage: "labels", Runs: true, About: apps.AtEndpoint, Options: []Option{
				{Name: "add", Kind: List, Usage: "add"}, {Name: "delete", Kind: List, Usage: "delete"},
			}},
			{Name: "get", Usage: "list", Commands: ep()},
			{Name: "evict", Usage: "evict", Args: "USER", Runs: true, About: apps.InMesh},
			{Name: "show", Usage: "show", Args: "[MESH]", Runs: true, About: apps.AtEndpoint},
			{Name: "ping", Usage: "ping", Commands: ep()},
			{Name: "tunnel", Usage: "tunnels", Commands: []*Command{
				{Name: "open", Usage: "open an end", Commands: []*Command{end("inbound", "in", "listen"), end("outbound", "out", "targets")}},
				{Name: "get", Usage: "list tunnels", Runs: true, About: apps.AtEndpoint, Commands: []*Command{{Name: "inbound", Usage: "inbounds", Runs: true, About: apps.AtEndpoint}}},
			}},
			{Name: "proxy", Usage: "proxy", Commands: []*Command{{Name: "config", Usage: "configure", Runs: true, Options: []Option{
				{Name: "users", Kind: OptionalList, Value: "USER", Usage: "for these users, or for none"},
				{Name: "set-listen", Kind: Optional, Value: "ADDRESS", Usage: "listen there, or nowhere"},
				{Name: "add-target", Kind: List, Value: "PATTERN", Usage: "a very long explanation of what a target is, how it is written, and what it means if none is given"},
			}}}},
			{Name: "terminal", Usage: "a shell", Commands: []*Command{
				{Name: "open", Usage: "open a shell", Args: "EP [-- COMMAND...]", Runs: true, About: apps.AtEndpoint},
			}},
			{Name: "script", Usage: "run a script", Args: "FILE [ARG...]", Runs: true, Options: []Option{{Name: "ep", Kind: List, Value: "EP", Usage: "where"}}, Commands: []*Command{
				{Name: "config", Usage: "configure", Runs: true, Options: []Option{{Name: "log", Kind: Bool, Usage: "log"}}},
			}},
			{Name: "ls", Usage: "list files", Args: "[PATH]", Runs: true, Options: []Option{
				{Name: "hash", Aliases: []string{"h"}, Kind: Bool, Usage: "show hashes"}, {Name: "secret", Kind: Bool, Hidden: true},
				{Name: "deep", Aliases: []string{"d"}, Kind: Bool, Usage: "go down"},
			}},
			{Name: "completion", Usage: "completion", Args: "bash|zsh", Runs: true},
			{Name: "serve", Usage: "serve", Runs: true, Options: []Option{{Name: "data", Aliases: []string{"d"}, Kind: One, Value: "DIR"}}},
			{Name: "hidden", Usage: "hidden", Hidden: true, Runs: true},
		},
	}
}

func TestParse(t *testing.T) {
	for _, tt := range []struct{ line, want string }{
		// The typical session, as far as it is here.
		{"join demo --as ep-root --permit root.json", "join --as=ep-root --permit=root.json -- demo"},
		{"tunnel open outbound tcp/web --targets 127.0.0.1:8080 --users root alice", "tunnel open outbound --targets=127.0.0.1:8080 --users=root --users=alice -- tcp/web"},
		{"tunnel open inbound  tcp/web --listen 18080", "tunnel open inbound --listen=18080 -- tcp/web"},
		{"terminal open ep-bob", "terminal open -- ep-bob"},
		{"proxy config --add-target 0.0.0.0/0 *", "proxy config --add-target=0.0.0.0/0 --add-target=*"},
		{"proxy config --set-listen 127.0.0.1:1080", "proxy config --set-listen=127.0.0.1:1080"},
		// Prefixes.
		{"mesh demo get ep", "get ep @mesh=demo"},
		{"ep demo/nas tunnel get", "tunnel get @ep=demo/nas"},
		{"endpoint nas ping endpoint", "ping ep @ep=nas"},
		{"-d x ep nas -o json get ep", "--data=x --output=json get ep @ep=nas"},
		{"ep ep ping ep ep", "ping ep -- ep @ep=ep"},
		{"mesh mesh ping ep", "ping ep @mesh=mesh"},
		{"mesh demo evict bob", "evict -- bob @mesh=demo"},
		{"ep demo/nas terminal open -- ls -l", "terminal open -- nas ls -l @ep=demo/nas"},
		{"ep nas terminal open", "terminal open -- nas @ep=nas"},
		{"mesh demo show", "show -- demo @mesh=demo"},
		{"ep nas show demo", "show -- demo @ep=nas"},
		// Options come anywhere, and belong to the command that declares them.
		{"join --as a --permit p demo", "join --as=a --permit=p -- demo"},
		{"join -p p demo --as=a", "join --permit=p --as=a -- demo"},
		{"join -pp demo --as=", "join --permit=p --as= -- demo"},
		{"join demo --as=a=b --permit -", "join --as=a=b --permit=- -- demo"},
		{"join demo -p=p --as -- -", ""},
		{"get -o json ep x", "--output=json get ep -- x"},
		{"get ep x -o json -d /tmp", "--output=json --data=/tmp get ep -- x"},
		{"-d x serve", "serve --data=x"},
		{"-d x -o json serve -d y", "--output=json serve --data=x --data=y"},
		{"get ep -ojson", "--output=json get ep"},
		{"label --add a b --delete c --add d", "label --add=a --add=b --delete=c --add=d"},
		{"label --add=-x --add - y", "label --add=-x --add=- --add=y"},
		{"tunnel open in --listen=1 tcp/x", "tunnel open inbound --listen=1 -- tcp/x"},
		{"tunnel open in --listen 1 2 -- tcp/x", "tunnel open inbound --listen=1 --listen=2 -- tcp/x"},
		{"proxy config --set-listen", "proxy config --set-listen="},
		{"proxy config --users", "proxy config --users="},
		{"proxy config --users a b --set-listen", "proxy config --users=a --users=b --set-listen="},
		{"proxy config --users --add-target a", "proxy config --users= --add-target=a"},
		{"proxy config --set-listen --add-target a", "proxy config --set-listen= --add-target=a"},
		{"ls -h", "ls --hash=true"},
		{"ls --hash=false /tmp", "ls --hash=false -- /tmp"},
		// Names.
		{"terminal open nas -- ls -l --color", "terminal open -- nas ls -l --color"},
		{"terminal open -- nas ls", "terminal open -- nas ls"},
		{"script config --log", "script config --log=true"},
		{"script - config", "script -- - config"},
		{"script -- config", "script -- config"},
		{"script a.sh config -- --log", "script -- a.sh config --log"},
		{"tunnel get", "tunnel get"},
		{"tunnel get inbound", "tunnel get inbound"},
		{"hidden", "hidden"},
		// Help.
		{"help", "HELP ztm"},
		{"-h", "HELP ztm"},
		{"--help join", "HELP ztm"},
		{"help join", "HELP ztm join"},
		{"help tunnel open in", "HELP ztm tunnel open inbound"},
		{"tunnel help open", "HELP ztm tunnel open"},
		{"join --help demo", "HELP ztm join"},
		{"join demo --as x -h", "HELP ztm join"},
		{"ep nas tunnel --help", "HELP ztm tunnel"},
		{"ep --help", "HELP ztm ep"},
		{"help ep", "HELP ztm ep"},
		{"ls --help", "HELP ztm ls"},
	} {
		t.Run(tt.line, func(t *testing.T) {
			l, err := Parse(program(), strings.Fields(tt.line))
			if err != nil {
				if tt.want != "" {
					t.Fatal(err)
				}
				return
			}
			if got := show(l); got != tt.want {
				t.Errorf("\n got %s\nwant %s", got, tt.want)
			}
		})
	}
}

// show renders a line for comparison.
func show(l *Line) string {
	if l.Help {
		return "HELP " + words(l.Path)
	}
	out := strings.Join(l.Canonical(), " ")
	for name, value := range l.Prefixes {
		out += " @" + name + "=" + value
	}
	return out
}

func TestParseRefuses(t *testing.T) {
	for _, tt := range []struct{ line, err, hint string }{
		{"", "missing command", "see: ztm help"},
		{"gte", `unknown command "gte"`, `did you mean "get"?`},
		{"tunel get", `unknown command "tunel"`, `did you mean "tunnel"?`},
		{"xyzzy", `unknown command "xyzzy"`, "see: ztm --help"},
		{"hiden", `unknown command "hiden"`, "see: ztm --help"},
		{"get", `missing command after "ztm get"`, "one of: ep"},
		{"get eps", `unknown command "get eps"`, `did you mean "ep"?`},
		{"tunnel get outbound", `unknown command "tunnel get outbound"`, "one of: inbound"},
		{"help jion", `unknown command "jion"`, `did you mean "join"?`},
		{"-- get ep", `unknown command "get"`, `did you mean "get"?`},
		{"ep", `missing [MESH/]EP after "ep"`, "usage: ztm ep [MESH/]EP COMMAND"},
		{"ep nas", `missing command after "ep nas"`, "see: ztm help"},
		{"mesh a ep b get ep", `"ep" cannot follow another prefix`, "name the mesh of an endpoint like this: ztm ep MESH/EP"},
		{"ep nas evict bob", `"ztm evict" cannot be run with the prefix "ep nas"`, "it is about the mesh as a whole: leave out the prefix, or choose the mesh with: ztm mesh MESH"},
		{"ep nas join x --as y -p z", `"ztm join" cannot be run with the prefix "ep nas"`, "it is about the device on which it is run: leave out the prefix, or run it on the other device"},
		{"mesh demo serve", `"ztm serve" cannot be run with the prefix "mesh demo"`, "it is about the device on which it is run: leave out the prefix, or run it on the other device"},
		{"mesh demo show demo", `the mesh is named twice: with the prefix "mesh demo" and with "demo"`, "usage: ztm show [MESH]"},
		{"ep nas terminal open phone -- ls", `the endpoint is named twice: with the prefix "ep nas" and with "phone"`, "usage: ztm terminal open EP [-- COMMAND...]"},
		{"tunle get", `unknown command "tunle"`, `did you mean "tunnel"?`},
		{"join", "missing MESH", "usage: ztm join MESH --as NAME --permit FILE"},
		{"join demo --as x", "missing option --permit", "usage: ztm join MESH --as NAME --permit FILE"},
		{"join demo --permit --as x", "option --permit needs a value", "usage: ztm join MESH --as NAME --permit FILE"},
		{"join demo --as", "option --as needs a value", "usage: ztm join MESH --as NAME --permit FILE"},
		{"join demo extra --as x -p y", `unexpected "extra"`, "usage: ztm join MESH --as NAME --permit FILE"},
		{"script --nothing config", `unknown option "--nothing"`, "see: ztm script --help"},
		{"script --ep=nas config", `unknown option "--ep"`, "see: ztm script config --help"},
		{"script config --ep nas", `unknown option "--ep"`, "see: ztm script config --help"},
		{"join demo --name x", `unknown option "--name"`, "see: ztm join --help"},
		{"join demo --permitt=x", `unknown option "--permitt"`, `did you mean "--permit"?`},
		{"label --add --delete x", "option --add needs a value", "usage: ztm label [OPTIONS]"},
		{"ls --hash=maybe", `option --hash takes no value: "maybe"`, "usage: ztm ls [PATH] [OPTIONS]"},
		{"terminal open nas ls -l", `unknown option "-l"`, "see: ztm terminal open --help"},
		{"label -o yml", `option --output: "yml" is not table or json`, "usage: ztm label [OPTIONS]"},
		{"label --output=", `option --output: "" is not table or json`, "usage: ztm label [OPTIONS]"},
		{"label x", `unexpected "x"`, "usage: ztm label [OPTIONS]"},
	} {
		t.Run(tt.line, func(t *testing.T) {
			l, err := Parse(program(), strings.Fields(tt.line))
			if err == nil {
				t.Fatalf("understood as %s", show(l))
			}
			if !errors.As(err, new(*apps.UsageError)) {
				t.Errorf("%T is not a usage error", err)
			}
			var h *apps.HintError
			if !errors.As(err, &h) {
				t.Fatalf("no hint: %v", err)
			}
			if diff := cmp.Diff([]string{tt.err, tt.hint}, []string{err.Error(), h.Hint}); diff != "" {
				t.Errorf("error and hint (-want +got):\n%s", diff)
			}
		})
	}
}

func TestParseRefusesEmptyNames(t *testing.T) {
	for _, line := range [][]string{{"join", "", "--as", "x", "-p", "y"}, {"ep", "", "get", "ep"}} {
		if l, err := Parse(program(), line); err == nil {
			t.Errorf("%q is understood as %s", line, show(l))
		}
	}
}

// FuzzParse checks that the canonical form of a line means what the line meant.
func FuzzParse(f *testing.F) {
	for _, line := range []string{
		"join demo --as a --permit p", "ep a/b tunnel open in tcp/x --listen 1 2 --users a -- b", "label --add=-x - y", "-- x",
		"proxy config --set-listen --add-target", "help tunnel open", "script - config", "ls -h=true", "-o=", "--=x", "-=", "get ep --", "mesh",
	} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		args := strings.Split(line, " ")
		Complete(program(), args)
		l, err := Parse(program(), args)
		if err != nil || l.Help {
			return
		}
		canonical := l.Canonical()
		again, err := Parse(program(), canonical)
		// A command that has been given names is not looked for commands by whoever reads the
		// canonical form.
		if err != nil {
			t.Fatalf("%q: canonical %q: %v", args, canonical, err)
		}
		if !slices.Equal(again.Canonical(), canonical) || !slices.Equal(again.Names, l.Names) {
			t.Errorf("%q: canonical %q, again %q", args, canonical, again.Canonical())
		}
	})
}

func TestHelp(t *testing.T) {
	var out strings.Builder
	for _, line := range []string{"help", "help join", "help ep", "help proxy config", "help script", "help ls", "help tunnel get"} {
		l, err := Parse(program(), strings.Fields(line))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&out, "$ ztm %s\n", line)
		if err := Help(&out, l.Path); err != nil {
			t.Fatal(err)
		}
		out.WriteByte('\n')
	}
	golden(t, "help.txt", out.String())
}

// golden compares with a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

func TestComplete(t *testing.T) {
	const common = "--data --output --help"
	for _, tt := range []struct{ line, want string }{
		{"", "mesh ep join label get evict show ping tunnel proxy terminal script ls completion serve"},
		{"p", "ping proxy"},
		{"ep", "ep"},
		{"ep ", "<[MESH/]EP>"},
		{"ep demo/n", "<[MESH/]EP demo/n>"},
		{"ep nas ", "label get show ping tunnel terminal"},
		{"mesh demo m", ""},
		{"ping ep ", "<EP>"},
		{"ping ep n", "<EP n>"},
		{"ping ep nas ", ""},
		{"join ", "<MESH>"},
		{"join demo --", "--as --permit " + common},
		{"join demo --as x --", "--permit " + common},
		{"join demo -p ", "<FILE>"},
		{"join demo -p fi", "<FILE fi>"},
		{"join demo --permit=fi", "<FILE --permit=:fi>"},
		{"join demo --as", "--as"},
		{"tunnel open in tcp/x --users ", "<USER>"},
		{"tunnel open in tcp/x --users a b", "<USER b>"},
		{"tunnel open in tcp/x --users a --l", "--listen"},
		{"tunnel open in tcp/x --users a --u", "--users"},
		{"tunnel get ", "inbound"},
		{"script ", "config <FILE>"},
		{"script a ", "<ARG>"},
		{"script a b c ", "<ARG>"},
		{"terminal open nas -- ls ", "<COMMAND>"},
		{"-o ", "table json"},
		{"-o j", "json"},
		{"--output=j", "--output=json"},
		{"completion ", "bash zsh"},
		{"ls --", "--hash --deep " + common},
		{"get ep x -", "--data --output --help"},
		{"nonsense ", ""},
		{"join --help ", ""},
		{"help tunnel o", "open"},
	} {
		t.Run(tt.line, func(t *testing.T) {
			n := Complete(program(), strings.Split(tt.line, " "))
			var got []string
			for _, w := range n.Words {
				got = append(got, w.Word)
			}
			if n.Value != "" {
				v := "<" + n.Value
				if n.Glue != "" || n.Typed != "" {
					v += " " + n.Glue
				}
				if n.Glue != "" {
					v += ":"
				}
				got = append(got, v+n.Typed+">")
			}
			if diff := cmp.Diff(tt.want, strings.Join(got, " ")); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestArgs(t *testing.T) {
	for _, tt := range []struct {
		args     string
		names    string
		required int
		repeats  bool
	}{
		{"", "", 0, false},
		{"MESH", "MESH", 1, false},
		{"[NAME]", "NAME", 0, false},
		{"[MESH/]EP", "[MESH/]EP", 1, false},
		{"EP [SESSION]", "EP SESSION", 1, false},
		{"EP [-- COMMAND ...]", "EP COMMAND", 1, true},
		{"EP [-- COMMAND...]", "EP COMMAND", 1, true},
		{"EP [IP:]PORT ...", "EP [IP:]PORT", 2, true},
		{"FILE...", "FILE", 1, true},
		{"[FROM TO]", "FROM TO", 0, false},
	} {
		names, required, repeats := (&Command{Args: tt.args}).args()
		if strings.Join(names, " ") != tt.names || required != tt.required || repeats != tt.repeats {
			t.Errorf("%q: %q, %d, %v", tt.args, names, required, repeats)
		}
	}
}

func TestDistance(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"get", "get", 0}, {"gte", "get", 1}, {"gt", "get", 1}, {"gett", "get", 1}, {"got", "get", 1},
		{"", "get", 3}, {"kitten", "sitting", 3}, {strings.Repeat("x", 1000), "get", 64},
	} {
		if got := distance(tt.a, tt.b); got != tt.want {
			t.Errorf("distance(%q, %q) = %d, want %d", tt.a, tt.b, got, tt.want)
		}
	}
}

func TestALineOfAForeignCommandIsReadUpToItsName(t *testing.T) {
	for _, tt := range []struct {
		line, word, rest string
		ok               bool
	}{
		{"guests", "guests", "", true},
		{"-d x ep nas guests --all -d y -- z", "guests", "--all -d y -- z", true},
		{"help guests", "guests", "--help", true},
		{"help help guests", "guests", "--help", true},
		{"join guests", "", "", false},
		{"tunnel guests", "", "", false},
		{"-d guests", "", "", false},
		{"ep guests", "", "", false},
		{"--nothing guests", "", "", false},
		{"-- guests", "", "", false},
		{"hidden guests", "", "", false},
		{"", "", "", false},
	} {
		line, word, rest, ok := Foreign(program(), strings.Fields(tt.line))
		if word != tt.word || strings.Join(rest, " ") != tt.rest || ok != tt.ok {
			t.Errorf("%q: %q, %q, %t", tt.line, word, rest, ok)
		}
		if ok && strings.HasPrefix(tt.line, "-d x") && (line.Prefixes["ep"] != "nas" || line.options[0][0] != "--data=x") {
			t.Errorf("%q: %v, %v", tt.line, line.Prefixes, line.options)
		}
	}
}

func TestAHintWithSeveralWaysIsOneLine(t *testing.T) {
	root := &Command{Name: "ztm", Commands: []*Command{{Name: "inbox", Runs: true, Synopsis: "ztm inbox\n       ztm inbox ID"}}}
	_, err := Parse(root, []string{"inbox", "x"})
	var h *apps.HintError
	if !errors.As(err, &h) || h.Hint != "usage: ztm inbox, or: ztm inbox ID" {
		t.Errorf("%v: %+v", err, h)
	}
}
