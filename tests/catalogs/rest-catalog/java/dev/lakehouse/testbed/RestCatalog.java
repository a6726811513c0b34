package dev.lakehouse.testbed;

import jakarta.servlet.DispatcherType;
import jakarta.servlet.FilterChain;
import jakarta.servlet.http.HttpFilter;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import java.io.IOException;
import java.util.EnumSet;
import java.util.HashMap;
import java.util.Map;
import java.util.Set;
import java.util.UUID;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.iceberg.CatalogUtil;
import org.apache.iceberg.catalog.Catalog;
import org.apache.iceberg.rest.RESTCatalogAdapter;
import org.apache.iceberg.rest.RESTCatalogServlet;
import org.eclipse.jetty.ee10.servlet.FilterHolder;
import org.eclipse.jetty.ee10.servlet.ServletContextHandler;
import org.eclipse.jetty.ee10.servlet.ServletHolder;
import org.eclipse.jetty.server.Server;
import org.eclipse.jetty.server.ServerConnector;

/**
 * A server of Iceberg's REST protocol over a JDBC catalog, for tests. Iceberg's own adapter does the work; this adds what
 * it leaves open: who may call it. A client logs in with its credential (OAuth2, "client credentials") and every other
 * request needs the token that it gets then.
 *
 * <p>Everything comes from the environment: {@code REST_HOST}, {@code REST_PORT} and {@code REST_CREDENTIAL}
 * ({@code id:secret}), and properties of the catalog as {@code CATALOG_} and their name in capitals with {@code _} for
 * {@code .} and {@code __} for {@code -}.
 */
public final class RestCatalog {
  private static final String LOGIN = "/v1/oauth/tokens";
  private static final String PREFIX = "CATALOG_";

  private RestCatalog() {}

  public static void main(String[] arguments) throws Exception {
    Map<String, String> environment = System.getenv();
    Map<String, String> properties = new HashMap<>();
    environment.forEach(
        (name, value) -> {
          if (name.startsWith(PREFIX)) {
            properties.put(propertyOf(name), value);
          }
        });
    Catalog catalog = CatalogUtil.buildIcebergCatalog("rest", properties, null);

    Server server = new Server();
    ServerConnector connector = new ServerConnector(server);
    connector.setHost(environment.getOrDefault("REST_HOST", "127.0.0.1"));
    connector.setPort(Integer.parseInt(environment.get("REST_PORT")));
    server.addConnector(connector);
    ServletContextHandler context = new ServletContextHandler();
    context.addServlet(new ServletHolder(new RESTCatalogServlet(new RESTCatalogAdapter(catalog))), "/*");
    FilterHolder door = new FilterHolder(new Door(environment.get("REST_CREDENTIAL")));
    context.addFilter(door, "/*", EnumSet.of(DispatcherType.REQUEST));
    server.setHandler(context);
    server.start();
    server.join();
  }

  private static String propertyOf(String variable) {
    return variable.substring(PREFIX.length()).replace("__", "-").replace('_', '.').toLowerCase();
  }

  /** Lets in who has logged in with the credential. Tokens end with the process, as a restart should show. */
  private static final class Door extends HttpFilter {
    private final Set<String> tokens = ConcurrentHashMap.newKeySet();
    private final String id;
    private final String secret;

    Door(String credential) {
      String[] parts = credential.split(":", 2);
      this.id = parts[0];
      this.secret = parts[1];
    }

    @Override
    protected void doFilter(HttpServletRequest request, HttpServletResponse response, FilterChain chain)
        throws IOException, jakarta.servlet.ServletException {
      if (request.getRequestURI().equals(LOGIN)) {
        logIn(request, response);
        return;
      }
      String header = request.getHeader("Authorization");
      if (header != null && header.startsWith("Bearer ") && tokens.contains(header.substring(7))) {
        chain.doFilter(request, response);
      } else {
        refuse(response, "{\"error\":{\"message\":\"log in first\",\"type\":\"NotAuthorizedException\",\"code\":401}}");
      }
    }

    private void logIn(HttpServletRequest request, HttpServletResponse response) throws IOException {
      boolean known = id.equals(request.getParameter("client_id")) && secret.equals(request.getParameter("client_secret"));
      if (!known) {
        refuse(response, "{\"error\":\"invalid_client\",\"error_description\":\"unknown credential\"}");
        return;
      }
      String token = UUID.randomUUID().toString();
      tokens.add(token);
      answer(response, 200, "{\"access_token\":\"" + token + "\",\"token_type\":\"bearer\",\"expires_in\":3600}");
    }

    private static void refuse(HttpServletResponse response, String body) throws IOException {
      answer(response, 401, body);
    }

    private static void answer(HttpServletResponse response, int status, String body) throws IOException {
      response.setStatus(status);
      response.setContentType("application/json");
      response.getWriter().write(body);
    }
  }
}
