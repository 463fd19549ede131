package frpc

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ztm/apps/tunnel/spec"
)

// read reads a file that is right.
func read(t *testing.T, path string) *Config {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	c, err := Read(f)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func lines(p Plan) (out []string) {
	for _, s := range p.Steps {
		out = append(out, s.String())
	}
	return append(out, p.Left...)
}

func TestAFileBecomesCommands(t *testing.T) {
	want := []string{
		"ztm tunnel open outbound tcp/shells --check tcp --rate 1MiB/s --targets 127.0.0.1:22 192.168.31.100:22",
		"ztm ep gate tunnel open inbound tcp/shells --listen '*:6001'",
		"ztm tunnel open outbound udp/dns --targets 114.114.114.114:53",
		"ztm ep gate tunnel open inbound udp/dns --listen '*:6002'",
		"ztm tunnel open outbound tcp/status --check http:/status --proxy-protocol v2 --targets 127.0.0.1:8000",
		"ztm tunnel open outbound tcp/docker --targets unix:/var/run/docker.sock",
		"ztm ep gate tunnel open inbound tcp/docker --listen '*:6003'",
		"ztm tunnel open outbound tcp/secret --targets 127.0.0.1:22",
		"ztm tunnel open outbound tcp/p2p --targets 127.0.0.1:22 --users alice bob",
		"ztm tunnel open inbound tcp/secret --listen 127.0.0.1:9000",
		"ztm tunnel open inbound udp/p2p --exits-of alice --listen 0.0.0.0:9001",
		`proxy "web": type http: there is no public web server here that knows sites by their names; who has no agent needs one beside the hub`,
		`proxy "files": plugin static_file: files are shared by: ztm file allow PATH --users USER`,
		`proxy "socks": plugin socks5: an endpoint is an exit by: ztm proxy config --add-target '*'`,
		`proxy "secret": all users of frp: name those who may: ztm tunnel set outbound tcp/secret --users USER`,
		`proxy "two words": tunnel name "tcp/two words": a name has letters, digits, '.', '_' and '-', at most 63 bytes, and not dots alone`,
		`proxy "old": it is not enabled`,
		`visitor "silent": it has no port to listen on`,
	}
	if diff := cmp.Diff(want, lines(read(t, "testdata/frpc.toml").Plan("gate"))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestWithoutAServerItsPortsAreLeftToWhoWantsThem(t *testing.T) {
	for _, s := range read(t, "testdata/frpc.toml").Plan("").Steps {
		if s.At != "" || s.Wanted != (s.Kind == spec.InboundKind && strings.HasPrefix(s.Options["listen"][0], "6")) {
			t.Errorf("%+v", s)
		}
	}
}

func TestWhatIsWrongWithAFileIsSaid(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"the old form", "[common]\nserver_addr = x.example.com\n", "it has the old form of frp, INI"},
		{"a template", "serverAddr = \"{{ .Envs.FRP }}\"", "it is a template"},
		{"a key that frp does not know", "[[proxies]]\nname=\"a\"\nlocalprot = 22", `frp has no key "localprot"`},
		{"a text for a number", "[[proxies]]\nlocalPort = \"22\"", "localPort cannot be a string"},
		{"a key twice", "user = \"a\"\nuser = \"b\"", "line 2: user is there twice"},
		{"a table twice", "[auth]\n[auth]", "line 2: table auth is there twice"},
		{"a table that is a text", "auth = \"a\"\nauth.token = \"b\"", "line 2: auth is not a table"},
		{"an array that is a table", "[proxies]\n[[proxies]]", "line 2: proxies is there twice"},
		{"a table that is an array", "proxies = [1]\n[[proxies]]", "line 2: proxies is an array already"},
		{"more behind the value", "user = \"a\" b", `line 1: "b" where the line should end`},
		{"no value", "user =\n", "line 1: \"\" where a value should be"},
		{"a word without quotes", "user = abc", "line 1: abc is not read here"},
		{"another base", "serverPort = 0x1b58", "line 1: 0x1b58 is not read here"},
		{"a date", "user = 1979-05-27", "line 1: 1979-05-27 is not read here"},
		{"several lines", "user = \"\"\"a\nb\"\"\"", "line 1: a string of several lines is not read here"},
		{"an open text", "user = \"a\nb\"", "line 1: a string without its closing quote"},
		{"an open array", "start = [\"a\"", "line 1: \"\" in an array"},
		{"an open table", "auth = { a = 1", "line 1: \"\" in a table"},
		{"an escape that is none", `user = "\x"`, `line 1: \x is not an escape of TOML`},
		{"half of a character", `user = "\ud800"`, `line 1: \ud800 is not a character`},
		{"too deep", "start = " + strings.Repeat("[", 20), "line 1: too many arrays and tables in one another"},
		{"a long key", "a" + strings.Repeat(".a", 20) + " = 1", "line 1: a key with too many parts"},
		{"no text", "user = \"\xff\"", "it is not UTF-8"},
		{"too much", "#" + strings.Repeat("x", maxFile), "more than 1048576 bytes"},
	} {
		if _, err := Read(strings.NewReader(tt.text)); err == nil || !strings.HasPrefix(err.Error(), tt.want) && !strings.HasSuffix(err.Error(), tt.want) {
			t.Errorf("%s: %v; want %s", tt.name, err, tt.want)
		}
	}
}

func TestTOMLIsReadAsItIsWritten(t *testing.T) {
	got, err := parseTOML("\ufeffa = -1\r\nb.c = [ 1.5, true,\n # one\n 'x\\', ]\n\"d e\" = {f.g = \"\\u00e9\\n\", h = []}\n" +
		"[[i]]\n[i.j]\nk = +2\n[[i]]\n[[i.l]]\nm = 0\n[[i.l]]\n[n.o]\n[n]\np = \"#\" # q\n")
	want := table{
		"a": int64(-1), "b": table{"c": []any{1.5, true, `x\`}}, "d e": table{"f": table{"g": "é\n"}, "h": []any{}},
		"i": []any{table{"j": table{"k": int64(2)}}, table{"l": []any{table{"m": int64(0)}, table{}}}},
		"n": table{"o": table{}, "p": "#"},
	}
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestALongFileTakesNoLongerThanItsLength holds that thousands of proxies are a moment's work. Were
// each compared with all before it, this would not end within the time that tests have.
func TestALongFileTakesNoLongerThanItsLength(t *testing.T) {
	var text strings.Builder
	for i := range 9000 {
		fmt.Fprintf(&text, "[[proxies]]\nname=\"n%d\"\ntype=\"tcp\"\nlocalPort=1\nremotePort=%d\n", i, i+1)
	}
	c, err := Read(strings.NewReader(text.String()))
	if err != nil {
		t.Fatal(err)
	}
	if steps := c.Plan("gate").Steps; len(steps) != 18000 {
		t.Errorf("%d steps", len(steps))
	}
}

// FuzzRead holds that whatever a file says, each step that comes of it is one word of a shell after
// the other, and names a tunnel.
func FuzzRead(f *testing.F) {
	full, err := os.ReadFile("testdata/frpc.toml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(full))
	f.Add("[[proxies]]\nname = \"a\"\ntype = \"tcp\"\nlocalIP = \"::1\"\nlocalPort = 1\nremotePort = 2")
	f.Add("[[visitors]]\nserverName = \"b\"\nbindAddr = \"$(x)\"\nbindPort = 1\nserverUser = \"' ;\"")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := Read(strings.NewReader(text))
		if err != nil {
			return
		}
		for _, s := range c.Plan("gate").Steps {
			if _, err := spec.ParseKey(s.Tunnel); err != nil {
				t.Errorf("%+v: %v", s, err)
			}
			if strings.ContainsFunc(s.String(), func(r rune) bool { return r < ' ' || r == 0x7f }) {
				t.Errorf("%q has control characters", s)
			}
		}
	})
}
