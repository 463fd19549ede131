package main

import (
	"testing"

	"ztm/apps"
	"ztm/apps/appstest"
)

func TestTheMeshKeepsWhatAMeshPromises(t *testing.T) {
	w := newWorld(t)
	appstest.Suite(t, func(t *testing.T, name, user string, construct func(apps.Host) apps.App) {
		w.options.Apps = []apps.Kind{{Name: "suite", New: construct}}
		w.join(name, user)
		w.options.Apps = nil
	})
}
