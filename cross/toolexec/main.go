// Command toolexec runs a tool of Go's for `go build -toolexec`, and in the place of the linker
// another one: its first argument.
//
//	toolexec OURS/link GOROOT/pkg/tool/HOST/compile ARGUMENTS
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: toolexec LINKER TOOL [ARGUMENT]...")
		os.Exit(2)
	}
	tool := os.Args[2]
	if filepath.Base(tool) == filepath.Base(os.Args[1]) {
		tool = os.Args[1]
	}
	cmd := exec.Command(tool, os.Args[3:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	err := cmd.Run()
	var failed *exec.ExitError
	if errors.As(err, &failed) {
		os.Exit(failed.ExitCode())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "toolexec:", err)
		os.Exit(1)
	}
}
