package eventnode

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// atRest is a directory with several tables, something scavenged, and all kinds of events, as Close leaves it.
func atRest(t testing.TB) *vfs.MemFS {
	fs := vfs.NewMem()
	r := startRig(t, &rig{fs: fs})
	formatStory(r)
	for i := range 40 {
		appending(fmt.Sprintf("s-%d", i%7), expectAny, fmt.Sprintf("%d-%s", i, strings.Repeat("x", 100)))(r)
	}
	setting("s-3", `{"$maxCount":2}`)(r)
	if got := scavenging(r); got != "Started" {
		t.Fatal(got)
	}
	r.restart()
	appending("s-1", expectAny, "last")(r)
	r.down()
	copied := vfs.NewMem()
	copyFiles(t, copied, "log", fs, "log")
	r.up()
	return copied
}

// contents is all that can be read from a directory, in words; or what the first failure says.
func contents(t testing.TB, fs vfs.FS) (string, error) {
	d, err := openDatabase("log", fs, discard)
	if err != nil {
		return "", err
	}
	log := newEventLog(d.db)
	words, err := allOf(log)
	return words, errors.Join(err, d.close())
}

func allOf(log eventLog) (string, error) {
	sum := sha256.New()
	var streams []string
	var p page
	for _, backwards := range []bool{false, true} {
		for from, to, done := uint64(0), uint64(1<<40), false; !done; {
			next, end, err := log.all(&p, from, to, backwards, true, 7)
			if err != nil {
				return "", err
			}
			for _, e := range p.events {
				fmt.Fprintln(sum, e.position, e.flags, string(e.frame))
				streams = append(streams, string(e.stream))
			}
			if done = end; backwards {
				to = next
			} else {
				from = next
			}
		}
	}
	slices.Sort(streams)
	for _, stream := range slices.Compact(streams) {
		v, err := log.visible(stream, 1<<40, newClock().now())
		if err != nil {
			return "", err
		}
		fmt.Fprintln(sum, stream, v)
		if _, _, err := log.stream(&p, stream, 0, deletedRevision, false, 1000); err != nil {
			return "", err
		}
		for _, e := range p.events {
			fmt.Fprintln(sum, e.position, e.flags, string(e.frame))
		}
	}
	return fmt.Sprintf("%d streams, %x", len(streams), sum.Sum(nil)), nil
}

// named is what a report of damage has to have: a file of the directory, a position, or that the directory does not open.
var named = regexp.MustCompile(`\d{6}|MANIFEST|cannot open log|mark|position`)

// judge says what is wrong with how a damaged directory was taken: it must be refused, or found by the check, or be as good as
// it was.
func judge(t testing.TB, fs *vfs.MemFS, want string) (how, wrong string) {
	checked := vfs.NewMem()
	copyFiles(t, checked, "log", fs, "log")
	report, err := check(context.Background(), "log", checked)
	got, failed := contents(t, fs)
	switch {
	case err != nil:
		return "", "it cannot be checked: " + err.Error()
	case failed != nil && !named.MatchString(failed.Error()):
		return "", "nothing is named: " + failed.Error()
	case len(report.Damages) > 0 && !named.MatchString(report.Damages[0].String()):
		return "", "nothing is named: " + report.Damages[0].String()
	case failed != nil && len(report.Damages) == 0:
		return "", "the check finds nothing, and reading says " + failed.Error()
	case failed != nil:
		return "refused", ""
	case got != want:
		return "", fmt.Sprintf("other content is served; the check says %v", report.Damages)
	case len(report.Damages) > 0:
		return "found by the check", ""
	}
	return "harmless", ""
}

func damages() int {
	if os.Getenv("TENURE_SOAK") != "" {
		return 2000
	}
	return 60
}

// One bit flips in any file of a directory, or a file is cut short: nobody is ever served anything else than before.
func TestDamageIsNeverServed(t *testing.T) {
	t.Parallel()
	whole := atRest(t)
	names, err := whole.List("log")
	if err != nil {
		t.Fatal(err)
	}
	names = slices.DeleteFunc(names, func(name string) bool {
		content, err := readFile(whole, whole.PathJoin("log", name))
		return err != nil || len(content) == 0
	})
	pristine := vfs.NewMem()
	copyFiles(t, pristine, "log", whole, "log")
	want, err := contents(t, pristine)
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(7, 7))
	seen := map[string]int{}
	for i := range damages() {
		name := names[i%len(names)]
		damaged := vfs.NewMem()
		copyFiles(t, damaged, "log", whole, "log")
		path := damaged.PathJoin("log", name)
		content, err := readFile(damaged, path)
		if err != nil {
			t.Fatal(err)
		}
		what := ""
		if i/len(names)%4 == 3 {
			at := random.IntN(len(content))
			what, content = fmt.Sprintf("%s cut at %d of %d", name, at, len(content)), content[:at]
		} else {
			bit := random.IntN(8 * len(content))
			content[bit/8] ^= 1 << (bit % 8)
			what = fmt.Sprintf("bit %d of %s of %d bytes", bit, name, len(content))
		}
		if err := writeFile(damaged, path, content); err != nil {
			t.Fatal(err)
		}
		how, wrong := judge(t, damaged, want)
		if wrong != "" {
			t.Errorf("%s: %s", what, wrong)
		}
		seen[how]++
	}
	if seen["refused"] == 0 || seen["harmless"] == damages() {
		t.Error("nothing was damaged", seen)
	}
	t.Log(seen)
}
