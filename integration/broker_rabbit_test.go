package integration

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tenure-dev/tenure/adapters/bus/broker"
	"github.com/tenure-dev/tenure/adapters/bus/settings"
)

// rabbitServer is where Debian's package has the server without the wrapper that changes the user.
const rabbitServer = "/usr/lib/rabbitmq/bin/rabbitmq-server"

// rabbitBroker runs RabbitMQ with a port mapper of its own. It is ended as a crash ends it.
func rabbitBroker(t testing.TB) testBroker {
	if _, err := os.Stat(rabbitServer); err != nil {
		t.Skip("rabbitmq-server is not installed: make setup")
	}
	n := newRabbit(t)
	n.run(n.command("epmd", "-port", fmt.Sprint(n.mapper), "-address", "127.0.0.1"))
	b := testBroker{start: n.start, stop: func() { n.stop() }}
	url := func(password string) settings.Secret {
		return settings.NewSecret(fmt.Sprintf("amqp://guest:%s@127.0.0.1:%d/", password, n.port))
	}
	sink := func(name, password string) *broker.AMQPSink {
		c := broker.NewAMQPSink()
		c.URL, c.Exchange, c.RoutingKey = url(password), name, "{type}"
		return c
	}
	b.sink = func(name string) broker.Sink { return sink(name, "guest") }
	b.source = func(name string) subscribing {
		c := broker.NewAMQPSource()
		c.URL, c.Exchange, c.Queue, c.Redelivery = url("guest"), name, name, time.Millisecond
		return c
	}
	b.stranger = sink("stranger", strangersPassword)
	nowhere := sink("nowhere", "guest")
	nowhere.Declare = false
	b.nowhere = nowhere
	b.start()
	return b
}

type rabbit struct {
	testing.TB
	dir          string
	port, mapper int
	env          []string
	stop         func()
}

func newRabbit(t testing.TB) *rabbit {
	dir, port, mapper, nodes := t.TempDir(), freePort(t), freePort(t), freePort(t)
	for name, text := range map[string]string{"rabbitmq.conf": "max_message_size = 65536\n", "plugins": "[].\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return &rabbit{TB: t, dir: dir, port: port, mapper: mapper, env: append(os.Environ(), "HOME="+dir,
		fmt.Sprintf("ERL_EPMD_PORT=%d", mapper), "ERL_EPMD_ADDRESS=127.0.0.1",
		fmt.Sprintf("RABBITMQ_NODENAME=tenure-%d@localhost", port), fmt.Sprintf("RABBITMQ_NODE_PORT=%d", port),
		"RABBITMQ_NODE_IP_ADDRESS=127.0.0.1", fmt.Sprintf("RABBITMQ_DIST_PORT=%d", nodes), "RABBITMQ_MNESIA_BASE="+dir,
		"RABBITMQ_LOG_BASE="+dir, "RABBITMQ_LOGS=-", "RABBITMQ_CONFIG_FILE="+dir+"/rabbitmq.conf", "RABBITMQ_CONF_ENV_FILE="+dir+"/none",
		"RABBITMQ_ENABLED_PLUGINS_FILE="+dir+"/plugins", "RABBITMQ_PID_FILE="+dir+"/pid", "RABBITMQ_ALLOW_INPUT=1")}
}

func (n *rabbit) command(name string, arguments ...string) *exec.Cmd {
	cmd := exec.Command(name, arguments...)
	cmd.Env, cmd.Dir = n.env, n.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	return cmd
}

// run starts a process, which ends with the test or by the function.
func (n *rabbit) run(cmd *exec.Cmd) (end func()) {
	if err := cmd.Start(); err != nil {
		n.Fatal(err)
	}
	end = sync.OnceFunc(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
	})
	n.Cleanup(end)
	return end
}

func (n *rabbit) start() {
	server := n.command(rabbitServer)
	stdin, err := server.StdinPipe() // a shell without an end of its input
	if err != nil {
		n.Fatal(err)
	}
	out, err := server.StdoutPipe()
	if err != nil {
		n.Fatal(err)
	}
	ready, read := make(chan bool, 1), make(chan struct{})
	end := n.run(server)
	go func() {
		defer close(read)
		defer close(ready)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if strings.Contains(lines.Text(), "startup complete") {
				ready <- true
			}
		}
	}()
	n.stop = func() {
		end()
		_ = stdin.Close()
		<-read
	}
	select {
	case up := <-ready:
		if !up {
			n.Fatal("rabbitmq-server has ended")
		}
	case <-time.After(patience):
		n.Fatal("rabbitmq-server is not ready")
	}
}

func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}
