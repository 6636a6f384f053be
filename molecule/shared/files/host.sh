# Makes a container that has just booted into a host as Ansible meets it: sshd at its own address, and an administrator
# who logs in with a key. Run in the container as root. ADDRESS and PORT: where sshd listens. KEY: who may log in.
# Prints sshd's public host key.
set -eu

# Our own base image has them; a public one perhaps not.
if ! { command -v sshd && command -v sudo && command -v python3; } >/dev/null; then
    export DEBIAN_FRONTEND=noninteractive
    { apt-get update && apt-get install --yes --no-install-recommends openssh-server sudo python3; } >&2
fi

useradd --create-home --shell /bin/bash deploy
echo 'deploy ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/deploy
install -d -m 700 -o deploy -g deploy ~deploy/.ssh
echo "$KEY" >~deploy/.ssh/authorized_keys
chown deploy: ~deploy/.ssh/authorized_keys

ssh-keygen -A >/dev/null
cat >/etc/ssh/sshd_config <<END
ListenAddress $ADDRESS:$PORT
UsePAM yes
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin no
MaxStartups 100
Subsystem sftp internal-sftp
END
# Where a socket of systemd would listen at all addresses instead.
if systemctl --quiet is-active ssh.socket; then systemctl --quiet disable --now ssh.socket; fi
systemctl unmask --quiet ssh.service
systemctl enable --quiet ssh.service
systemctl restart ssh.service
cat /etc/ssh/ssh_host_ed25519_key.pub
