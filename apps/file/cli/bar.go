package cli

import (
	"io"
	"sync"
	"time"

	"ztm/apps"
	"ztm/apps/file/transfer"
	"ztm/apps/progress"
)

const barPace = 200 * time.Millisecond

var steps = [...]string{transfer.Starting: "starting", transfer.Comparing: "comparing", transfer.Copying: "copying", transfer.Finishing: "finishing"}

// startBar shows how far a copy is, until stop is called. Nothing of it is left then.
func startBar(w io.Writer, quiet bool, name string, m *transfer.Meter) (stop func()) {
	if quiet {
		return func() {}
	}
	bar := progress.New(w)
	ended := make(chan struct{})
	var drawing sync.WaitGroup
	drawing.Go(func() {
		tick := time.NewTicker(barPace)
		defer tick.Stop()
		for {
			select {
			case now := <-tick.C:
				bar.Show(stateOf(m, name), now)
			case <-ended:
				bar.End()
				return
			}
		}
	})
	return func() {
		close(ended)
		drawing.Wait()
	}
}

func stateOf(m *transfer.Meter, name string) progress.State {
	s := progress.State{Step: steps[m.Step.Load()], Done: m.Bytes.Load(), Total: m.TotalBytes.Load(), Files: int(m.Files.Load()), Of: int(m.TotalFiles.Load()),
		Name: apps.Bytes(name).String()}
	s.Total = max(s.Total, s.Done) // files that grow, and totals that are not known yet
	return s
}
