package pause_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"ztm/tunnel/pause"
)

func TestAPauseIsAsLongAsItWasMeant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		if !pause.For(t.Context(), time.Hour) || time.Since(begin) != time.Hour {
			t.Errorf("it waited %v", time.Since(begin))
		}
		if !pause.For(t.Context(), 0) || !pause.For(t.Context(), -time.Second) || time.Since(begin) != time.Hour {
			t.Error("there was nothing to wait for")
		}
	})
}

func TestAPauseEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		begin := time.Now()
		for range 2 { // the second time ctx has ended already
			if pause.For(ctx, time.Hour) || pause.For(ctx, 0) || time.Since(begin) != time.Minute {
				t.Errorf("it waited %v", time.Since(begin))
			}
		}
	})
}

func TestAPauseIsOverWhenItIsWoken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin, wake := time.Now(), make(chan struct{}, 1)
		wake <- struct{}{}
		if !pause.OrWake(t.Context(), time.Hour, wake) || time.Since(begin) != 0 {
			t.Errorf("it waited %v", time.Since(begin))
		}
		if !pause.OrWake(t.Context(), time.Hour, wake) || time.Since(begin) != time.Hour {
			t.Errorf("without a token it waited %v", time.Since(begin))
		}
	})
}
