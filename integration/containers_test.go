package integration

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	docker "github.com/moby/moby/client"
	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/log"
)

// images are the variables that name the images of the container suites, and what is taken where they are not set.
var images = map[string]string{
	"TENURE_IMAGE_POSTGRES":   "postgres:16",
	"TENURE_IMAGE_EVENTSTORE": "kurrentplatform/kurrentdb:latest",
	"TENURE_IMAGE_NATS":       "nats:2",
	"TENURE_IMAGE_RABBITMQ":   "rabbitmq:3",
}

func imageOf(variable string) string { return cmp.Or(os.Getenv(variable), images[variable]) }

// noEngine is why there are no containers; empty where a Docker engine answers. The suites clean up themselves: the library's
// reaper is an image of its own, and not needed.
var noEngine = sync.OnceValue(func() string {
	_ = os.Setenv("TESTCONTAINERS_RYUK_DISABLED", "true")
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	engine, err := docker.New(docker.FromEnv)
	if err == nil {
		defer engine.Close()
		_, err = engine.Ping(ctx, docker.PingOptions{})
	}
	if err != nil {
		return "no Docker engine answers: make containers starts one"
	}
	return ""
})

// needEngine skips a test where no Docker engine answers, unless the containers are required, as they are where CI runs them.
func needEngine(t testing.TB) {
	t.Helper()
	why := noEngine()
	switch {
	case why == "":
	case os.Getenv("TENURE_CONTAINERS") == "required":
		t.Fatal("TENURE_CONTAINERS=required, but " + why)
	default:
		t.Skip(why)
	}
}

// box is a container whose one port is at the same address of this machine for as long as it is there, killed or not.
type box struct {
	t    testing.TB
	ctr  *testcontainers.DockerContainer
	addr string // host:port
	// answers asks what is inside whether it does.
	answers func(context.Context) error
}

// startBox runs a container until the test ends, and waits until it answers.
func startBox(t testing.TB, image, port string, answers func(ctx context.Context, addr string) error, options ...testcontainers.ContainerCustomizer) *box {
	t.Helper()
	needEngine(t)
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &box{t: t, addr: free.Addr().String()}
	b.answers = func(ctx context.Context) error { return answers(ctx, b.addr) }
	_ = free.Close()
	_, hostPort, _ := net.SplitHostPort(b.addr)
	inside := network.MustParsePort(port + "/tcp")
	b.ctr, err = testcontainers.Run(t.Context(), image, append(options, testcontainers.WithExposedPorts(inside.String()), testcontainers.WithLogger(log.TestLogger(t)),
		testcontainers.WithHostConfigModifier(func(c *container.HostConfig) {
			c.PortBindings = network.PortMap{inside: {{HostIP: netip.AddrFrom4([4]byte{127, 0, 0, 1}), HostPort: hostPort}}}
		}))...)
	testcontainers.CleanupContainer(t, b.ctr, testcontainers.StopTimeout(0))
	if err != nil {
		t.Fatalf("%s: %v", image, err)
	}
	b.await()
	return b
}

// await asks until the container answers.
func (b *box) await() {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	pause := time.NewTicker(50 * time.Millisecond)
	defer pause.Stop()
	for {
		once, stop := context.WithTimeout(ctx, 5*time.Second)
		err := b.answers(once)
		stop()
		if err == nil {
			return
		}
		select {
		case <-pause.C:
		case <-ctx.Done():
			b.t.Fatalf("%s does not answer: %v", b.ctr.Image, err)
		}
	}
}

// stop kills what is inside with SIGKILL.
func (b *box) stop() {
	b.t.Helper()
	b.engine(func(ctx context.Context, engine *testcontainers.DockerClient) error {
		ended := engine.ContainerWait(ctx, b.ctr.GetContainerID(), docker.ContainerWaitOptions{Condition: container.WaitConditionNotRunning})
		if _, err := engine.ContainerKill(ctx, b.ctr.GetContainerID(), docker.ContainerKillOptions{Signal: "KILL"}); err != nil {
			return err
		}
		select {
		case <-ended.Result:
			return nil
		case err := <-ended.Error:
			return err
		}
	})
}

// start starts the container that was killed, on the same files, and waits until it answers.
func (b *box) start() {
	b.t.Helper()
	b.engine(func(ctx context.Context, engine *testcontainers.DockerClient) error {
		_, err := engine.ContainerStart(ctx, b.ctr.GetContainerID(), docker.ContainerStartOptions{})
		return err
	})
	b.await()
}

func (b *box) engine(f func(context.Context, *testcontainers.DockerClient) error) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	engine, err := testcontainers.NewDockerClientWithOpts(ctx)
	if err == nil {
		defer engine.Close()
		err = f(ctx, engine)
	}
	if err != nil {
		b.t.Fatalf("%s: %v", b.ctr.Image, err)
	}
}

// isOurs tells whether an image is the product's own, by its label; one that is not there yet is somebody else's.
func isOurs(t testing.TB, image string) bool {
	t.Helper()
	needEngine(t)
	engine, err := testcontainers.NewDockerClientWithOpts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer engine.Close()
	found, err := engine.ImageInspect(t.Context(), image)
	return err == nil && found.Config != nil && found.Config.Labels["org.opencontainers.image.title"] == "Tenure"
}

// natsContainer is a NATS server with JetStream.
func natsContainer(t testing.TB) *box {
	t.Helper()
	return startBox(t, imageOf("TENURE_IMAGE_NATS"), "4222", func(ctx context.Context, addr string) error {
		return greeted(ctx, addr, "", "INFO {")
	}, testcontainers.WithCmd("-js"))
}

// rabbitContainer is a RabbitMQ broker, for the user suite with the password suite.
func rabbitContainer(t testing.TB) *box {
	t.Helper()
	return startBox(t, imageOf("TENURE_IMAGE_RABBITMQ"), "5672", func(ctx context.Context, addr string) error {
		return greeted(ctx, addr, "AMQP\x00\x00\x09\x01", "\x01\x00\x00") // answered by a method frame on channel 0: Connection.Start
	}, testcontainers.WithEnv(map[string]string{"RABBITMQ_DEFAULT_USER": "suite", "RABBITMQ_DEFAULT_PASS": "suite"}))
}

// greeted says something, and wants an answer that begins with those bytes.
func greeted(ctx context.Context, addr, say, want string) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	if deadline, is := ctx.Deadline(); is {
		_ = conn.SetDeadline(deadline)
	}
	if _, err := conn.Write([]byte(say)); err != nil {
		return err
	}
	answer := make([]byte, 1024)
	n, err := conn.Read(answer)
	if err == nil && !strings.HasPrefix(string(answer[:n]), want) {
		err = fmt.Errorf("%s answers %q", addr, answer[:n])
	}
	return err
}
