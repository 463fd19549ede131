package directory

import (
	"context"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ztm/apps/appstest"
	"ztm/tunnel/identity"
)

// Changes that come while the disk is busy are one write.
func TestTheSaverWritesWhatHasGatheredAtOnce(t *testing.T) {
	var writes []int
	entered, release := make(chan struct{}), make(chan struct{})
	sv := newSaver(
		func(ids map[identity.ID]struct{}) map[identity.ID]*row {
			rows := map[identity.ID]*row{}
			for id := range ids {
				rows[id] = nil
			}
			return rows
		},
		func(rows map[identity.ID]*row) error {
			writes = append(writes, len(rows))
			entered <- struct{}{}
			<-release
			return nil
		})
	ctx, cancel := context.WithCancel(t.Context())
	stopped := make(chan struct{})
	go func() { defer close(stopped); sv.run(ctx.Done()) }()
	done := make(chan error, 11)
	go func() { done <- sv.save("first") }()
	<-entered
	for i := range 10 {
		go func() { done <- sv.save(identity.ID(fmt.Sprint(i))) }()
	}
	appstest.Eventually(t, "ten changes wait", func() bool {
		sv.mu.Lock()
		defer sv.mu.Unlock()
		return len(sv.next.ids) == 10
	})
	release <- struct{}{}
	<-entered
	release <- struct{}{}
	for range 11 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	cancel()
	<-stopped
	if diff := cmp.Diff([]int{1, 10}, writes); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if err := sv.save("late"); err == nil {
		t.Error("a change after the end was taken")
	}
}
