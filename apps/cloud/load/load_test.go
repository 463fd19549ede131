package load

import (
	"context"
	"fmt"
	"os"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"ztm/apps/appstest"
	"ztm/apps/cloud/fetch"
	"ztm/apps/cloud/index"
)

func TestMain(m *testing.M) { os.Exit(appstest.Run(m)) }

func TestAFileThatWaitsForTheDiskKeepsNobodyFromBeingFetched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var fetched, waiting atomic.Int32
		disk := make(chan struct{})
		one := func(_ context.Context, _ index.Row, _ func(fetch.Progress), came func()) (string, error) {
			fetched.Add(1)
			came()
			waiting.Add(1)
			<-disk
			return "", nil
		}
		l := New(Config{Life: t.Context(), Files: 2, Waiting: 5, Begin: func(context.Context, *fetch.Rate) Fetch { return one }})
		rows := make([]index.Row, 20)
		for i := range rows {
			rows[i].Path = fmt.Sprint(i)
		}
		d, err := l.Start(rows, nil)
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if f, w := fetched.Load(), waiting.Load(); f != 7 || w != 5 {
			t.Errorf("with a disk that stands still %d files were begun and %d wait for it, want 2+5 and 5", f, w)
		}
		close(disk)
		<-d.Ended()
		if p := d.Progress(); p.Done != len(rows) {
			t.Errorf("%+v", p)
		}
		l.Wait()
	})
}
