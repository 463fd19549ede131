package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"ztm/agent/api"
	"ztm/agent/console"
	"ztm/apps/appstest"
)

// page is a page of the documentation.
type page struct {
	path   string
	blocks []block
	inline []string // code between backquotes
}

// block is a block of code: its lines, and the number of the first.
type block struct {
	at    int
	lines []string
}

// pages reads the README and what is below docs.
func pages(t *testing.T) []page {
	t.Helper()
	paths := []string{"README.md", "CONTRIBUTING.md"}
	for _, pattern := range []string{"docs/*.md", "docs/*/*.md"} {
		more, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		paths = append(paths, more...)
	}
	var out []page
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, parsePage(path, string(text)))
	}
	return out
}

func parsePage(path, text string) page {
	p := page{path: path}
	inside := false
	for i, line := range strings.Split(text, "\n") {
		switch {
		case strings.HasPrefix(strings.TrimSpace(line), "```"):
			if inside = !inside; inside {
				p.blocks = append(p.blocks, block{at: i + 2})
			}
		case inside:
			b := &p.blocks[len(p.blocks)-1]
			if n := len(b.lines); n > 0 && strings.HasSuffix(b.lines[n-1], `\`) {
				b.lines[n-1] = strings.TrimSuffix(b.lines[n-1], `\`) + line
				break
			}
			b.lines = append(b.lines, line)
		default:
			for j, code := range strings.Split(line, "`") {
				if j%2 == 1 {
					p.inline = append(p.inline, code)
				}
			}
		}
	}
	return p
}

// prompt is what a line of a session begins with: the name of a device.
var prompt = regexp.MustCompile(`^([a-z0-9-]+)\$ `)

// ownCommands finds the command lines of this program in a line of shell, each as its words without
// the program's name.
func ownCommands(line string) [][]string {
	var out [][]string
	for _, at := range regexp.MustCompile(`(?:^|[\s'"(|&;])ztm `).FindAllStringIndex(line, -1) {
		rest := line[at[1]:]
		for _, quote := range []string{"'", `"`} { // the whole command stands in quotes
			if strings.Count(line[:at[1]], quote)%2 == 1 {
				rest, _, _ = strings.Cut(rest, quote)
			}
		}
		out = append(out, shellWords(rest))
	}
	return out
}

// shellWords takes apart a simple command: up to what ends it or leads its output elsewhere.
func shellWords(s string) []string {
	var words []string
	word, quote, begun := "", rune(0), false
	end := func() {
		if begun {
			words = append(words, word)
		}
		word, begun = "", false
	}
	for _, r := range s {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			word += string(r)
		case r == '\'' || r == '"':
			quote, begun = r, true
		case r == ' ' || r == '\t':
			end()
		case strings.ContainsRune("|&;><)", r), r == '#' && !begun:
			end()
			return words
		default:
			word, begun = word+string(r), true
		}
	}
	end()
	return words
}

// ofAnApp is a command that an installed app brings: this binary does not know it.
var ofAnApp = regexp.MustCompile(`^(ep \S+ )?(PROVIDER/)?(NAME|guestbook)( |$)`)

// TestTheReadmeLeadsToEveryPage holds that what is written is found by who begins there.
func TestTheReadmeLeadsToEveryPage(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(readme), "\n## More\n")
	for _, p := range pages(t) {
		if filepath.Dir(p.path) == "docs" && !strings.Contains(table, "]("+p.path+")") {
			t.Errorf("the table of pages in README.md has no %s", p.path)
		}
	}
}

// TestCommandsOfThePagesExist holds that what the pages tell people to type is understood: each
// command, each option.
func TestCommandsOfThePagesExist(t *testing.T) {
	c := console.New(console.Config{})
	seen := 0
	for _, p := range pages(t) {
		for _, b := range p.blocks {
			for i, line := range b.lines {
				if strings.Contains(line, "──") { // a drawing
					continue
				}
				for _, args := range ownCommands(prompt.ReplaceAllString(strings.TrimSpace(line), "")) {
					seen++
					if err := c.Check(args, commands(c), false); err != nil {
						t.Errorf("%s:%d: ztm %s: %v", p.path, b.at+i, strings.Join(args, " "), err)
					}
				}
			}
		}
		for _, code := range p.inline {
			args, ok := strings.CutPrefix(code, "ztm ")
			if !ok || ofAnApp.MatchString(args) || p.path == "docs/protocol.md" { // which has strings that only begin like a command
				continue
			}
			seen++
			if err := c.Check(mentioned(args), commands(c), true); err != nil {
				t.Errorf("%s: `%s`: %v", p.path, code, err)
			}
		}
	}
	if seen < 20 {
		t.Errorf("only %d commands were found", seen)
	}
}

// TestExamplesOfHelpAreWholeCommands holds the same of what the help of each command tells people to type.
func TestExamplesOfHelpAreWholeCommands(t *testing.T) {
	c := console.New(console.Config{})
	seen := 0
	for _, cmd := range allCommands(t) {
		for line := range strings.Lines(cmd.Description) {
			for _, args := range ownCommands(strings.TrimSpace(line)) {
				if !strings.HasPrefix(line, "  ") || ofAnApp.MatchString(strings.Join(args, " ")) {
					continue
				}
				seen++
				if err := c.Check(args, commands(c), false); err != nil {
					t.Errorf("help of ztm %s: ztm %s: %v", cmd, strings.Join(args, " "), err)
				}
			}
		}
	}
	if seen < 100 {
		t.Errorf("only %d examples were found", seen)
	}
}

// TestTheManualNamesEveryCommand holds that a new command gets its line in the table of commands.
func TestTheManualNamesEveryCommand(t *testing.T) {
	text, err := os.ReadFile("docs/manual.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(string(text), "\n| command |")
	if table, _, _ = strings.Cut(table, "\n\n"); !found {
		t.Fatal("the manual has no table of commands")
	}
	for _, cmd := range allCommands(t) {
		if !regexp.MustCompile("`[^`]*\\b" + regexp.QuoteMeta(cmd.words[0]) + "\\b").MatchString(table) {
			t.Errorf("ztm %s is not in the manual's table of commands", cmd.words[0])
		}
	}
}

// mentioned is a command in a sentence: without brackets, and only up to what stands for any
// command.
func mentioned(text string) []string {
	var words []string
	for _, w := range shellWords(text) {
		if w = strings.TrimLeft(w, "["); !strings.Contains(w, "/]") {
			w = strings.TrimRight(w, "]")
		} else {
			w = "[" + w
		}
		if w == "COMMAND" || w == "..." || w == "…" {
			break
		}
		words = append(words, w)
	}
	return words
}

// session is the devices of a page: processes on this machine that share a directory, so that a
// file which one device has written is there for the others.
type session struct {
	t       *testing.T
	dir     string
	bin     string
	hubs    map[string]string // addresses of hubs by what the page names; a hub is the device of that name
	replace *strings.Replacer // what the page names, and what it is here
	restore *strings.Replacer
}

// TestSessionsOfThePagesWork types what the pages show after a prompt, page by page, as written:
// only addresses are others. Where a page shows what is printed, that is printed.
func TestSessionsOfThePagesWork(t *testing.T) {
	appstest.Long(t)
	for _, program := range []string{"sh", "curl"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip("needs the program " + program)
		}
	}
	played := 0
	for _, p := range pages(t) {
		if !slices.ContainsFunc(p.blocks, func(b block) bool { return slices.ContainsFunc(b.lines, prompt.MatchString) }) {
			continue
		}
		t.Run(p.path, func(t *testing.T) {
			t.Parallel() // most of the time a page waits for its mesh
			if p.path == "docs/apps.md" {
				needsApps(t, "python3")
			}
			s := newSession(t, p)
			for _, b := range p.blocks {
				s.play(p.path, b)
			}
		})
		played++
	}
	if played == 0 {
		t.Error("no page has a session")
	}
}

func newSession(t *testing.T, p page) *session {
	t.Helper()
	dir, err := os.MkdirTemp("", "ztm-docs-") // t.TempDir is often too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s := &session{t: t, dir: dir, bin: program(t), hubs: map[string]string{}}
	var there, here []string // what the page names and what it is here, and the other way
	names := func(word, is string) {
		there, here = append(there, word, is), append(here, is, word)
	}
	for _, hub := range []string{"hub.example.com:8888", "hub2.example.com:8888"} {
		s.hubs[hub] = appstest.FreeAddress(t)
		names(hub, s.hubs[hub])
	}
	for _, v := range places {
		if p.has(v.address) && v.missing() == "" {
			names(v.address, v.start(s))
		}
	}
	for _, port := range p.ports() {
		names(port, appstest.Port(appstest.FreeAddress(t)))
	}
	for name, text := range standIns {
		s.wrapper(name, text)
	}
	s.replace, s.restore = strings.NewReplacer(there...), strings.NewReplacer(here...)
	return s
}

// fileName is the first line of a block that is a file.
var fileName = regexp.MustCompile(`^# ([a-z0-9-]+\.yaml)$`)

// play types the commands of a block, one after the other. A block that begins with the name of a
// file in a comment is that file.
func (s *session) play(path string, b block) {
	s.t.Helper()
	if m := fileName.FindStringSubmatch(b.lines[0]); m != nil {
		if err := os.WriteFile(filepath.Join(s.dir, m[1]), []byte(strings.Join(b.lines, "\n")), 0o600); err != nil {
			s.t.Fatal(err)
		}
	}
	if name := b.missing(); name != "" {
		s.t.Logf("%s:%d is left out: it needs the program %s", path, b.at, name)
		return
	}
	for i := 0; i < len(b.lines); i++ {
		m := prompt.FindStringSubmatch(b.lines[i])
		if m == nil {
			continue
		}
		at, line, host := i, strings.TrimPrefix(b.lines[i], m[0]), m[1]
		var want []string
		for i+1 < len(b.lines) && prompt.FindString(b.lines[i+1]) == "" {
			i++
			want = append(want, b.lines[i])
		}
		where := fmt.Sprintf("%s:%d: %s", path, b.at+at, line)
		alone, stays := strings.CutSuffix(strings.TrimSpace(line), "&")
		if strings.HasPrefix(line, "ztm run ") && !strings.Contains(line, "--identity") { // that prints and ends
			stays = true
		}
		if stays {
			s.serve(where, host, alone, want)
			continue
		}
		s.compare(where, want, s.run(where, host, line))
	}
}

// run types a command that ends by itself, and returns what it prints.
func (s *session) run(where, host, line string) string {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	var out, errs bytes.Buffer
	cmd := s.command(ctx, host, s.here(host, line))
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		s.t.Fatalf("%s: %v\n%s%s", where, cmp.Or(ctx.Err(), err), &out, &errs)
	}
	return out.String()
}

// here is a line of a page as it is typed on a device.
func (s *session) here(host, line string) string {
	line = s.replace.Replace(line)
	return strings.Replace(line, "ztm run hub ", "ztm run hub --listen "+s.hubOf(host)+" ", 1)
}

// hubOf is where the hub on a device listens.
func (s *session) hubOf(host string) string {
	return cmp.Or(s.hubs[host+".example.com:8888"], s.hubs["hub.example.com:8888"])
}

// command is a shell on a device.
func (s *session) command(ctx context.Context, host, line string) *exec.Cmd {
	home := filepath.Join(s.dir, host+".home")
	if err := os.MkdirAll(home, 0o700); err != nil {
		s.t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, "sh", "-c", line)
	cmd.Dir, cmd.WaitDelay = s.dir, time.Second // for what the shell has started
	cmd.Env = []string{asProgram + "=1", "PATH=" + s.bin + ":" + os.Getenv("PATH"), "HOME=" + home}
	return cmd
}

// serve starts what runs until the end of the page: a hub or an agent, and waits until it serves;
// or what the page leaves in the background, and waits until that says what the page shows.
func (s *session) serve(where, host, line string, want []string) {
	s.t.Helper()
	log := &appstest.Buffer{}
	cmd := s.command(s.t.Context(), host, "exec "+s.here(host, line))
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		s.t.Fatalf("%s: %v", where, err)
	}
	s.t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		if host == "hub2" {
			cmd.Process.Kill() // it would wait until its agents have gone to the other hub
		}
		cmd.Wait()
		if s.t.Failed() {
			s.t.Logf("%s\n%s", where, log)
		}
	})
	w := world{t: s.t}
	w.until(where+" serves", func() error {
		if log.String() == "" {
			return errors.New("it says nothing") // at a hub's address there may be somebody else until then
		}
		if err := s.serves(host, line); err != nil {
			return err
		}
		if !strings.Contains(s.normal(log.String()), s.normal(strings.Join(want, "\n"))) {
			return fmt.Errorf("it does not say %q", want)
		}
		return nil
	})
}

// serves reports whether what a line started is there, as far as one can ask it.
func (s *session) serves(host, line string) error {
	switch {
	case strings.HasPrefix(line, "ztm run hub "):
		c, err := net.Dial("tcp", s.hubOf(host))
		if err != nil {
			return err
		}
		return c.Close()
	case strings.HasPrefix(line, "ztm run agent"):
		_, _, err := api.Dial(s.t.Context(), filepath.Join(s.dir, host+".home", ".ztm"))
		return err
	}
	return nil
}

// compare checks what was printed against what the page shows, if it shows anything.
func (s *session) compare(where string, want []string, got string) {
	s.t.Helper()
	for len(want) > 0 && strings.TrimSpace(want[len(want)-1]) == "" {
		want = want[:len(want)-1]
	}
	if w, g := s.normal(strings.Join(want, "\n")), s.normal(got); w != "" && w != g {
		s.t.Errorf("%s printed\n%s\nand the page shows\n%s", where, g, w)
	}
}

// normal is a text without what differs from one mesh to another.
func (s *session) normal(text string) string {
	text = s.restore.Replace(text)
	for _, r := range []struct{ pattern, with string }{
		{`\b[a-z2-7]{32}\b`, "ID"},
		{`\b\d+(\.\d+)?(µs|ms|s)\b`, "TIME"},
		{`\b\d{4}-\d\d-\d\dT[0-9:]+Z\b`, "TIME"},
		{`\b(\d{1,3}\.){3}\d{1,3}\s+\d+\b`, "ADDRESS"},
		{`\bv?\d+\.\d+\.\d+\S*|\(devel\)`, "VERSION"},
		{`(?m)(\S*/)?([a-z]+\.json)\b`, "$2"},
		{`[ \t]+`, " "},
		{` ?\n`, "\n"},
	} {
		text = regexp.MustCompile(r.pattern).ReplaceAllString(text, r.with)
	}
	return string(bytes.TrimSpace([]byte(text)))
}

func TestThePagesNameFilesThatExist(t *testing.T) {
	for _, page := range []string{"docs/architecture.md", "docs/decisions/rooms.md", "docs/decisions/sealed-http2.md", "CONTRIBUTING.md", "README.md", "docs/release.md", "SECURITY.md"} {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile("`((?:agent|apps|hub|tunnel|store|scripts|cross|docs)/[A-Za-z0-9_./-]+)`").FindAllStringSubmatch(string(text), -1) {
			if slices.Contains(notYet, m[1]) {
				continue
			}
			if _, err := os.Stat(m[1]); err != nil {
				t.Errorf("%s names %s, which is not there", page, m[1])
			}
		}
	}
}

// notYet are rooms that a page says are to come.
var notYet = []string{"hub/cluster", "tunnel/direct"}
