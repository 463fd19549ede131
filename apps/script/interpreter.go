package script

import (
	"bytes"
	"context"
	"io"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"ztm/apps/process"
	"ztm/tunnel/answer"
)

// interpreter is what runs a script.
type interpreter struct {
	name   string   // as it is asked for
	path   string   // of the program
	args   []string // before the script
	ending string   // that the script's file must have; "" if the name of the file does not matter
	engine bool     // is our own JavaScript engine

	// Only of the engine: what programs can call, and how to run a file within this process.
	help string
	run  func(ctx context.Context, file string, args []string, in io.Reader, out, errs io.Writer) (status int, err error)
}

// kind is what is known about a kind of interpreter.
type kind struct {
	name     string
	programs []string // in order of preference
	args     []string
	ending   string // as in interpreter
	files    string // the endings of the scripts it is for
}

// engineName is the kind that is our own engine, where there is one.
const engineName = "js"

// kinds are the known interpreters, in the order of [available]. Any other name is that of a
// program.
var kinds = []kind{
	{name: "sh", programs: []string{"sh"}, files: ".sh"},
	{name: "bash", programs: []string{"bash"}, files: ".bash"},
	{name: "python3", programs: []string{"python3", "python"}, files: ".py"},
	{name: "python", programs: []string{"python", "python3"}},
	{name: "perl", programs: []string{"perl"}, files: ".pl"},
	{name: "ruby", programs: []string{"ruby"}, files: ".rb"},
	{name: "lua", programs: []string{"lua"}, files: ".lua"},
	{name: "php", programs: []string{"php"}, files: ".php"},
	// Node looks for the real name of a script; what is read through a descriptor has none.
	{name: "node", programs: []string{"node"}, args: []string{"--preserve-symlinks-main"}},
	{name: "powershell", programs: []string{"pwsh", "powershell"}, args: []string{"-NoProfile", "-NonInteractive", "-File"},
		ending: ".ps1", files: ".ps1"},
	{name: "cmd", programs: []string{"cmd"}, args: []string{"/d", "/c"}, ending: ".cmd", files: ".cmd"},
}

func find(name string) (kind, bool) {
	i := slices.IndexFunc(kinds, func(k kind) bool { return k.name == name })
	if i < 0 {
		return kind{name: name, programs: []string{name}}, false
	}
	return kinds[i], true
}

// choose finds the interpreter of a script on this endpoint: the requested one, that of its #!
// line, that of the ending of its name, or sh.
func choose(self, with, file string, source []byte, a *process.Account, env []string) (interpreter, error) {
	var args []string
	if with == "" {
		with, args = shebang(source)
	}
	if with == "" {
		with = byEnding(file)
	}
	if with == engineName {
		if in, ok := engine(); ok {
			return in, nil
		}
		return interpreter{}, answer.Errorf(answer.NotFound, "the ztm of %s has no JavaScript engine; %s has: %s",
			self, self, strings.Join(available(a, env), ", "))
	}
	// A #! line names a path. If there is no such file, the same program may be elsewhere.
	base := path.Base(filepath.ToSlash(with))
	k, known := find(base)
	programs := k.programs
	if base != with {
		programs = append([]string{with}, programs...)
	}
	for _, p := range programs {
		if found, err := a.Find(p, env); err == nil {
			if known {
				args = slices.Concat(args, k.args)
			}
			return interpreter{name: base, path: found, args: args, ending: k.ending}, nil
		}
	}
	return interpreter{}, answer.Errorf(answer.NotFound, "%s has no interpreter %q; it has: %s", self, with, strings.Join(available(a, env), ", "))
}

// available returns the names of the interpreters of this endpoint.
func available(a *process.Account, env []string) (names []string) {
	if _, ok := engine(); ok {
		names = append(names, engineName)
	}
	for _, k := range kinds {
		if k.name == "python" {
			continue // is python3 by another name
		}
		for _, p := range k.programs {
			if _, err := a.Find(p, env); err == nil {
				names = append(names, k.name)
				break
			}
		}
	}
	return names
}

// shebang returns the interpreter that the first line of a script names, and its arguments; "" if
// there is none. The options and variables of env(1) are skipped, because programs are found by
// name in any case.
func shebang(source []byte) (program string, args []string) {
	rest, ok := bytes.CutPrefix(bytes.TrimPrefix(source, []byte("\ufeff")), []byte("#!"))
	if !ok {
		return "", nil
	}
	line, _, _ := bytes.Cut(rest[:min(len(rest), 1024)], []byte("\n"))
	words := strings.Fields(string(line))
	if len(words) > 0 && path.Base(words[0]) == "env" {
		words = words[1:]
		for len(words) > 0 && (strings.HasPrefix(words[0], "-") || strings.Contains(words[0], "=")) {
			words = words[1:]
		}
	}
	if len(words) == 0 {
		return "", nil
	}
	return words[0], words[1:]
}

// byEnding returns the interpreter for the ending of a file's name, or sh.
func byEnding(file string) string {
	ending := strings.ToLower(path.Ext(file))
	switch ending {
	case "":
		return "sh"
	case ".js", ".mjs":
		return engineName
	}
	for _, k := range kinds {
		if k.files == ending {
			return k.name
		}
	}
	return "sh"
}
