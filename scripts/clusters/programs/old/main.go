// Command old is kubectl as it was, at the version in go.mod: what people have who seldom upgrade. It is a
// module of its own, because a module has one version of each other.
package main

import (
	"os"

	"k8s.io/kubectl/pkg/cmd"
)

func main() {
	if err := cmd.NewDefaultKubectlCommand().Execute(); err != nil {
		os.Exit(1)
	}
}
