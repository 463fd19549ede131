//go:build unix

package service

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// find finds a program in $PATH. It is not exec.LookPath, which kills the process on Android: it asks for access in a way that the
// system's filter does not know.
func find(name string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	for _, dir := range filepath.SplitList(cmp.Or(os.Getenv("PATH"), "/usr/sbin:/usr/bin:/sbin:/bin")) {
		path := filepath.Join(dir, name)
		if fi, err := os.Stat(path); err == nil && fi.Mode().IsRegular() && fi.Mode().Perm()&0o111 != 0 {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s is not installed", name)
}
