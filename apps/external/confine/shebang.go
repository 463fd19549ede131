package confine

import (
	"io"
	"os"
	"path/filepath"
	"strings"
)

// maxShebang is how much of a first line the kernel reads, in bytes.
const maxShebang = 256

// shebang returns the programs that the first line of a script names: its interpreter, and what
// `env` is asked for, which is looked up in the PATH of the environment.
func shebang(path string, env []string) []string {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	head, err := io.ReadAll(io.LimitReader(f, maxShebang))
	if err != nil {
		return nil
	}
	line, _, _ := strings.Cut(string(head), "\n")
	line, ok := strings.CutPrefix(line, "#!")
	words := strings.Fields(line)
	if !ok || len(words) == 0 || !filepath.IsAbs(words[0]) || !isFile(words[0]) {
		return nil
	}
	list := []string{words[0]}
	if filepath.Base(words[0]) == "env" && len(words) > 1 {
		list = append(list, inPath(words[len(words)-1], env)...)
	}
	return list
}

// inPath returns all programs of a name in the PATH of an environment.
func inPath(name string, env []string) (found []string) {
	if strings.ContainsRune(name, filepath.Separator) {
		return nil
	}
	for _, v := range env {
		dirs, ok := strings.CutPrefix(v, "PATH=")
		if !ok {
			continue
		}
		for _, dir := range filepath.SplitList(dirs) {
			if p := filepath.Join(dir, name); filepath.IsAbs(p) && isFile(p) {
				found = append(found, p)
			}
		}
	}
	return found
}

// isFile reports whether there is a file. What may be read of a directory is all below it: ".." in
// the first line of a script would be the machine.
func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}
