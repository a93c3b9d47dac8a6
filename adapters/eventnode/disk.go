package eventnode

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// breakage is the first failure that a database cannot go on from. Its zero value is none.
type breakage struct {
	why      atomic.Pointer[error]
	happened chan struct{} // closed when there is one, if anybody wants to know
}

func (b *breakage) happen(err error) {
	if b.why.CompareAndSwap(nil, &err) && b.happened != nil {
		close(b.happened)
	}
}

// err is the failure, nil if there is none.
func (b *breakage) err() error {
	if why := b.why.Load(); why != nil {
		return *why
	}
	return nil
}

// disk is what Pebble writes to. The first write, sync or creation that fails is a breakage, and from then on nothing
// reaches the files any more: they stay as if the process had been killed in that moment, which is what recovery is made
// for. Pebble is told that all went well, for it answers such failures with panics or by trying again for ever. Whoever
// commits therefore asks for a breakage before believing it.
type disk struct {
	vfs.FS
	*breakage
}

// broken notes a failure. It reports whether there is one, this or an earlier one.
func (d disk) broken(doing, name string, err error) bool {
	if err != nil {
		if _, named := errors.AsType[*fs.PathError](err); !named {
			err = fmt.Errorf("%s %s: %w", doing, name, err)
		}
		d.happen(err)
	}
	return d.err() != nil
}

// writable is a file to write to: that of the disk, or one in memory for what is not to be written any more.
func (d disk) writable(doing, name string, open func() (vfs.File, error)) (vfs.File, error) {
	if d.err() == nil {
		f, err := open()
		if !d.broken(doing, name, err) {
			return diskFile{f, d, name}, nil
		}
		if err == nil {
			_ = f.Close()
		}
	}
	return vfs.NewMem().Create(d.PathBase(name), vfs.WriteCategoryUnspecified)
}

func (d disk) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if strings.HasPrefix(d.PathBase(name), "marker.") {
		if err := d.syncDir(d.PathDir(name)); err != nil {
			return nil, err
		}
	}
	return d.writable("create", name, func() (vfs.File, error) { return d.FS.Create(name, category) })
}

// syncDir is for the file that a marker of Pebble's names: it must not get lost where the marker does not.
func (d disk) syncDir(name string) error {
	dir, err := d.OpenDir(name)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

func (d disk) ReuseForWrite(old, name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	return d.writable("reuse", old, func() (vfs.File, error) { return d.FS.ReuseForWrite(old, name, category) })
}

func (d disk) OpenReadWrite(name string, category vfs.DiskWriteCategory, options ...vfs.OpenOption) (vfs.File, error) {
	return d.writable("open", name, func() (vfs.File, error) { return d.FS.OpenReadWrite(name, category, options...) })
}

func (d disk) OpenDir(name string) (vfs.File, error) {
	return d.writable("open", name, func() (vfs.File, error) { return d.FS.OpenDir(name) })
}

func (d disk) Rename(old, name string) error {
	if d.err() == nil {
		d.broken("rename", old, d.FS.Rename(old, name))
	}
	return nil
}

// Remove and RemoveAll may fail: what is obsolete is left where it is.
func (d disk) Remove(name string) error {
	if d.err() != nil {
		return nil
	}
	return d.FS.Remove(name)
}

func (d disk) RemoveAll(name string) error {
	if d.err() != nil {
		return nil
	}
	return d.FS.RemoveAll(name)
}

func (d disk) Unwrap() vfs.FS { return d.FS }

// diskFile is a file, or a directory, of a disk.
type diskFile struct {
	vfs.File
	disk disk
	name string
}

func (f diskFile) Write(p []byte) (int, error) {
	if f.disk.err() == nil {
		n, err := f.File.Write(p)
		f.wrote(p, n, err)
	}
	return len(p), nil
}

func (f diskFile) WriteAt(p []byte, at int64) (int, error) {
	if f.disk.err() == nil {
		n, err := f.File.WriteAt(p, at)
		f.wrote(p, n, err)
	}
	return len(p), nil
}

func (f diskFile) wrote(p []byte, n int, err error) {
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	f.disk.broken("write", f.name, err)
}

func (f diskFile) Sync() error {
	if f.disk.err() == nil {
		f.disk.broken("sync", f.name, f.File.Sync())
	}
	return nil
}

func (f diskFile) SyncData() error {
	if f.disk.err() == nil {
		f.disk.broken("sync", f.name, f.File.SyncData())
	}
	return nil
}

func (f diskFile) SyncTo(length int64) (whole bool, err error) {
	if f.disk.err() == nil {
		whole, err = f.File.SyncTo(length)
		f.disk.broken("sync", f.name, err)
	}
	return whole, nil
}

func (f diskFile) Close() error {
	f.disk.broken("close", f.name, f.File.Close())
	return nil
}
