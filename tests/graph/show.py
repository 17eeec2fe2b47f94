"""What someone at a terminal wants to know of a simulator that has just started."""

from tests.graph.world import World


def explain(world: World, url: str) -> None:
    drive = next(iter(world.drives.values()))
    client = next(iter(world.authority.clients.values()))
    secret = next(iter(client.secrets))
    token_url = f"{url}/{world.options.tenant}/oauth2/v2.0/token"
    print(
        f"""
  Graph          {url}/v1.0
  authority      {url}/{world.options.tenant}
  tenant         {world.options.tenant}
  client id      {client.id}
  client secret  {secret}
  drive id       {drive.id}

List the drive with rclone:

  RCLONE_CONFIG_SIM_TYPE=onedrive RCLONE_CONFIG_SIM_DRIVE_TYPE={drive.kind} \\
  RCLONE_CONFIG_SIM_DRIVE_ID='{drive.id}' RCLONE_CONFIG_SIM_TENANT_URL={url} \\
  RCLONE_CONFIG_SIM_CLIENT_CREDENTIALS=true RCLONE_CONFIG_SIM_CLIENT_ID={client.id} \\
  RCLONE_CONFIG_SIM_CLIENT_SECRET='{secret}' RCLONE_CONFIG_SIM_TOKEN_URL={token_url} \\
  rclone lsf -R sim:

Ctrl-C stops it; nothing is kept.
""",
        flush=True,
    )
