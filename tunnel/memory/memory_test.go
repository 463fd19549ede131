package memory

import (
	"os"
	"runtime"
	"runtime/debug"
	"testing"
	"testing/fstest"

	"ztm/apps/appstest"
)

func TestMain(m *testing.M) { os.Exit(appstest.Run(m)) }

const mb = 1 << 20

func system(files map[string]string) fstest.MapFS {
	out := fstest.MapFS{}
	for name, text := range files {
		out[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return out
}

func TestTheNarrowestLimitCounts(t *testing.T) {
	const info = "MemTotal:        1048576 kB\nMemFree:  3 kB\n" // 1 GB
	for _, tt := range []struct {
		name  string
		files map[string]string
		want  Limit
	}{
		{"nothing is known", nil, Limit{}},
		{"the machine", map[string]string{"proc/meminfo": info}, Limit{Bytes: 1024 * mb}},
		{"a line that makes no sense", map[string]string{"proc/meminfo": "MemTotal: lots kB\n"}, Limit{}},
		{"no limit", map[string]string{"proc/meminfo": info, "proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "max\n"}, Limit{Bytes: 1024 * mb}},
		{"a container", map[string]string{"proc/meminfo": info, "proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "134217728\n"}, Limit{128 * mb, true}},
		{"a group above", map[string]string{"proc/meminfo": info, "proc/self/cgroup": "0::/system.slice/ztm.service\n",
			"sys/fs/cgroup/system.slice/memory.max": "67108864", "sys/fs/cgroup/system.slice/ztm.service/memory.max": "134217728"}, Limit{64 * mb, true}},
		{"version 1", map[string]string{"proc/meminfo": info, "proc/self/cgroup": "5:cpu:/a\n4:memory:/box\n",
			"sys/fs/cgroup/memory/box/memory.limit_in_bytes": "33554432"}, Limit{32 * mb, true}},
		{"version 1 without a limit", map[string]string{"proc/meminfo": info, "proc/self/cgroup": "4:memory:/\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712"}, Limit{Bytes: 1024 * mb}},
		{"a group larger than the machine", map[string]string{"proc/meminfo": info, "proc/self/cgroup": "0::/\n",
			"sys/fs/cgroup/memory.max": "8589934592"}, Limit{Bytes: 1024 * mb}},
		{"a path that leads out", map[string]string{"proc/meminfo": info, "proc/self/cgroup": "0::/../../x\n"}, Limit{Bytes: 1024 * mb}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := Of(system(tt.files)); got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestTheCollectorWorksHarderWhereMemoryIsScarce(t *testing.T) {
	for _, tt := range []struct {
		limit   Limit
		percent int
		bytes   int64
	}{
		{Limit{}, 0, 0},
		{Limit{Bytes: 4096 * mb}, 0, 0},
		{Limit{512 * mb, true}, 0, 512 * mb / 10 * 8},
		{Limit{Bytes: 128 * mb}, 50, 32 * mb},
		{Limit{Bytes: 255 * mb}, 50, 48 * mb},
		{Limit{Bytes: 32 * mb}, 50, 16 * mb},
	} {
		if percent, bytes := tt.limit.collector(); percent != tt.percent || bytes != tt.bytes {
			t.Errorf("%+v: got %d %%, %d bytes; want %d, %d", tt.limit, percent, bytes, tt.percent, tt.bytes)
		}
	}
}

func TestTheEnvironmentHasPrecedence(t *testing.T) {
	percent, limit := debug.SetGCPercent(100), debug.SetMemoryLimit(1<<40)
	defer func() {
		debug.SetGCPercent(percent)
		debug.SetMemoryLimit(limit)
	}()
	Limit{Bytes: 64 * mb}.Tune(func(string) string { return "off" })
	if p, l := debug.SetGCPercent(100), debug.SetMemoryLimit(-1); p != 100 || l != 1<<40 {
		t.Errorf("GOGC and GOMEMLIMIT are set, and the collector has %d %% and %d bytes", p, l)
	}
	Limit{Bytes: 64 * mb}.Tune(func(string) string { return "" })
	if p, l := debug.SetGCPercent(100), debug.SetMemoryLimit(-1); p != 50 || l != 16*mb {
		t.Errorf("the collector has %d %% and %d bytes", p, l)
	}
}

func TestThisMachineHasMemory(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux says how much")
	}
	if l := Here(); l.Bytes < mb {
		t.Errorf("got %+v", l)
	}
}

func FuzzOf(f *testing.F) {
	f.Add("MemTotal: 1 kB\n", "0::/a/b\n", "1")
	f.Fuzz(func(t *testing.T, info, groups, limit string) {
		l := Of(system(map[string]string{"proc/meminfo": info, "proc/self/cgroup": groups, "sys/fs/cgroup/memory.max": limit}))
		if l.Bytes < 0 || l.Group && l.Bytes == 0 {
			t.Errorf("%+v", l)
		}
	})
}

func TestThingsFitIntoAPartOfTheMemory(t *testing.T) {
	const size = 64 << 10
	for _, tt := range []struct {
		bytes int64
		want  int
	}{{0, 1024}, {64 << 20, 128}, {1 << 20, 16}, {16 << 30, 1024}} {
		if got := (Limit{Bytes: tt.bytes}).Fit(1024, 8, size); got != tt.want {
			t.Errorf("of %d bytes: %d, want %d", tt.bytes, got, tt.want)
		}
	}
}
