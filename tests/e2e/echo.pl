# Echoes TCP and UDP on each port of its arguments (ADDRESS:PORT). On TCP the first line may order otherwise:
# "end" says bye and ends its own side first; "reset" resets. What happened to a connection is printed.
use strict; use warnings; use IO::Socket::INET; use IO::Select; use Socket; $| = 1; $SIG{PIPE} = "IGNORE";
my ($select, %listens, %udp, %heard) = (IO::Select->new);
for (@ARGV) {
    my ($address, $port) = split /:/;
    my $tcp = IO::Socket::INET->new(LocalAddr => $address, LocalPort => $port, Listen => 1024, ReuseAddr => 1) or die $!;
    my $udp = IO::Socket::INET->new(LocalAddr => $address, LocalPort => $port, Proto => "udp") or die $!;
    $listens{$tcp} = 1; $udp{$udp} = 1; $select->add($tcp, $udp);
}
sub over { my $sock = shift; $select->remove($sock); delete $heard{$sock}; close $sock }
print "listening\n";
while (my @ready = $select->can_read) {
    for my $sock (@ready) {
        if ($listens{$sock}) { my $new = $sock->accept; $select->add($new) if $new; next }
        if ($udp{$sock}) { my $from = recv($sock, my $data, 65535, 0); send($sock, "re $data", 0, $from) if $from; next }
        my $size = sysread($sock, my $data, 65536);
        if (!defined $size) { print "reset by peer\n"; over($sock); next }
        if ($size == 0) {
            if (defined $heard{$sock}) { print "heard $heard{$sock} after the end\n" } else { syswrite($sock, "bye") }
            over($sock); next;
        }
        if (defined $heard{$sock}) { $heard{$sock} += $size; next }
        if ($data eq "end\n") { syswrite($sock, "bye"); shutdown($sock, 1); $heard{$sock} = 0; next }
        if ($data eq "reset\n") { setsockopt($sock, SOL_SOCKET, SO_LINGER, pack("ii", 1, 0)); over($sock); next }
        my $sent = 0;
        while ($sent < $size) { my $n = syswrite($sock, $data, $size - $sent, $sent) or last; $sent += $n }
    }
}
