/* Preloaded into every program of a host of the laboratory: fsync and fdatasync take as many milliseconds longer as
 * stand in the file DELAY_FILE; none while there is no such file. Programs in Go (etcd, serf) call the kernel
 * themselves, and are as fast as ever. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static void wait_a_little(void)
{
    char text[16] = {0};
    int file = open(DELAY_FILE, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return;
    long ms = read(file, text, sizeof text - 1) > 0 ? atol(text) : 0;
    close(file);
    struct timespec left = {ms / 1000, (ms % 1000) * 1000000L};
    while (ms > 0 && nanosleep(&left, &left) != 0)
        ;
}

int fsync(int file)
{
    wait_a_little();
    return ((int (*)(int))dlsym(RTLD_NEXT, "fsync"))(file);
}

int fdatasync(int file)
{
    wait_a_little();
    return ((int (*)(int))dlsym(RTLD_NEXT, "fdatasync"))(file);
}
