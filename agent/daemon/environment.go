package daemon

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// environmentFile is the file in a data directory that holds variables of the hub or the agent:
// HTTPS_PROXY with a password has its place there.
const environmentFile = "environment"

// maxEnvironment is the longest such file, in bytes.
const maxEnvironment = 64 << 10

// Environment returns the variables of the file "environment" in a data directory, as "NAME=value";
// none if the file does not exist. The hub and the agent read it themselves, as the account that
// they run as, because the directory belongs to that account: a service manager would read the file
// as root. It is an error if another account could have written the file. An error that matches
// fs.ErrPermission means that this account may not read it.
//
// The file has lines NAME=value, blank lines, and comments that begin with # or ;. A value may be
// in single quotes, which keep everything, or in double quotes, in which \ keeps the next of " \ $
// and `. Nothing is expanded and nothing is run.
func Environment(data string) ([]string, error) {
	f, err := os.Open(filepath.Join(data, environmentFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no file", f.Name())
	}
	if err := checkWriters(info); err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name(), err)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxEnvironment+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxEnvironment {
		return nil, fmt.Errorf("%s has more than %d bytes", f.Name(), maxEnvironment)
	}
	vars, err := variables(string(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name(), err)
	}
	return vars, nil
}

// variables parses the text of an environment file. An error names the line without its text, which
// may be a secret.
func variables(text string) ([]string, error) {
	var out []string
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' || line[0] == ';' {
			continue
		}
		name, value, ok := strings.Cut(strings.TrimPrefix(line, "export "), "=")
		if !ok || !variableName(name) {
			return nil, fmt.Errorf("line %d: want NAME=value", n)
		}
		value, ok = unquoted(value)
		if !ok || strings.ContainsRune(value, 0) {
			return nil, fmt.Errorf("line %d: the value of %s is not quoted as it should be", n, name)
		}
		out = append(out, name+"="+value)
	}
	return out, nil
}

func variableName(s string) bool {
	for i, c := range []byte(s) {
		letter := c == '_' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}

// unquoted returns a value without its quotes. Only a comment may follow the closing quote.
func unquoted(s string) (value string, ok bool) {
	if s == "" || s[0] != '\'' && s[0] != '"' {
		return s, true
	}
	quote, rest := s[0], s[1:]
	var b strings.Builder
	for i := 0; i < len(rest); i++ {
		c := rest[i]
		if c == quote {
			tail := strings.TrimSpace(rest[i+1:])
			return b.String(), tail == "" || tail[0] == '#'
		}
		if quote == '"' && c == '\\' && i+1 < len(rest) && strings.IndexByte("\"\\$`", rest[i+1]) >= 0 {
			i++
			c = rest[i]
		}
		b.WriteByte(c)
	}
	return "", false
}
