package kube

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"ztm/apps/appstest"
)

// Whoever may write Services may write large ones.
func TestHugeAnnotationsTakeLittleMemory(t *testing.T) {
	appstest.Long(t)
	inLab(t, nil, func(t *testing.T, l *lab) {
		for i := range 40 { // as many as fit the time of a test; each has 1,000 words of 250 bytes
			l.service("shop", fmt.Sprint("s", i), fmt.Sprintf(`"ztm.dev/expose":"true","ztm.dev/users":"%s","other":"\u0000\n"`, strings.Repeat(strings.Repeat("é", 125)+",", 1000)))
		}
		l.service("shop", "web", exposed)
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		l.want(t, 3*time.Second, "tcp/shop.web")
		runtime.GC()
		runtime.ReadMemStats(&after)
		if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 2<<20 {
			t.Errorf("40 Services of 250 KB each: %d KB are kept", grown>>10)
		}
	})
}
